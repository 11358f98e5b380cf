//! What the registry remembers of a guest, as it is written. What is read is untrusted until it is checked.

use denali_client::Desired;
use denali_swap::{Commit, GuestId, hex};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The version of [`Written`]: keepers read their own version only.
const VERSION: u32 = 2;

/// Most characters of a name.
const NAME_MAX: usize = 64;

/// What the registry remembers of a guest.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Record {
    /// Whose region it is.
    pub(crate) id: GuestId,
    /// The guest's name.
    pub(crate) name: String,
    /// Its place among the keeper's guests: its port of the switch, and with it its address.
    pub(crate) number: u32,
    /// Whose it is.
    pub(crate) tenant: String,
    /// The snapshot that it is a copy of, until it is parked for the first time.
    pub(crate) template: Option<String>,
    /// SHA-256 of its image: 64 hexadecimal digits.
    pub(crate) image: String,
    /// Its configuration as JSON, with absolute paths.
    pub(crate) configuration: String,
    /// The last state that it can continue from; `None` if it was never parked.
    pub(crate) commit: Option<Commit>,
    /// What it does.
    pub(crate) life: Life,
    /// What it is meant to do.
    pub(crate) desired: Desired,
    /// What its user should know.
    pub(crate) note: Option<String>,
}

/// What a guest does, as far as the registry knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub(crate) enum Life {
    /// It runs, or ran when its keeper or host stopped.
    Running {},
    /// It is parked.
    Parked {
        /// When its timer goes off, in nanoseconds since 1970-01-01 UTC; `None` = never.
        deadline_real_ns: Option<u64>,
        /// Pages in its region.
        pages: u64,
        /// Its keeper parked it because it was asked to stop: it is to run again when a keeper is there.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        interrupted: bool,
    },
    /// It has not been started yet, and is when something comes for it.
    Waiting {},
    /// It has not been started, or was stopped.
    Stopped {},
    /// It cannot go on, or ended by itself.
    Failed {},
}

/// A record as it is written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    version: u32,
    guest_id: String,
    name: String,
    number: u32,
    tenant: String,
    template: Option<String>,
    image: String,
    commit: Option<WrittenCommit>,
    life: Life,
    desired: Desired,
    note: Option<String>,
    configuration: Value,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenCommit {
    sequence: u64,
    root: String,
}

/// The field that is read before all others.
#[derive(Deserialize)]
struct Version {
    version: u32,
}

impl Record {
    /// As it is written.
    pub(crate) fn to_json(&self) -> Result<Vec<u8>, serde_json::Error> {
        let commit = self
            .commit
            .map(|Commit { sequence, root }| WrittenCommit { sequence, root: hex::encode(&root) });
        serde_json::to_vec(&Written {
            version: VERSION,
            guest_id: self.id.to_string(),
            name: self.name.clone(),
            number: self.number,
            tenant: self.tenant.clone(),
            template: self.template.clone(),
            image: self.image.clone(),
            commit,
            life: self.life,
            desired: self.desired,
            note: self.note.clone(),
            configuration: serde_json::from_str(&self.configuration)?,
        })
    }

    /// Reads the record of guest `id`.
    ///
    /// # Errors
    /// Why it is none, in a few words.
    pub(crate) fn parse(text: &[u8], id: GuestId) -> Result<Self, String> {
        let version: Version = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        if version.version != VERSION {
            let version = version.version;
            return Err(format!("has version {version}, and this program reads version {VERSION}"));
        }
        let written: Written = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        if written.guest_id.parse() != Ok(id) {
            return Err("is of another guest than its name says".into());
        }
        let name_length = written.name.chars().count();
        if !(1..=NAME_MAX).contains(&name_length) || written.name.chars().any(char::is_control) {
            return Err(format!("has a name that is not 1 to {NAME_MAX} printable characters"));
        }
        let commit = written.commit.as_ref().map(commit).transpose()?;
        if commit.is_none() && matches!(written.life, Life::Parked { .. }) {
            return Err("is of a parked guest and names no commit".into());
        }
        Ok(Self {
            id,
            name: written.name,
            number: written.number,
            tenant: written.tenant,
            template: written.template,
            image: written.image,
            configuration: written.configuration.to_string(),
            commit,
            life: written.life,
            desired: written.desired,
            note: written.note,
        })
    }
}

fn commit(written: &WrittenCommit) -> Result<Commit, String> {
    let root = hex::decode(&written.root).filter(|_| written.sequence > 0);
    let root = root.ok_or("has a commit that is none")?;
    Ok(Commit { sequence: written.sequence, root })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(crate) fn record(number: u8, life: Life) -> Record {
        Record {
            id: GuestId([number; 16]),
            name: format!("guest {number}"),
            number: number.into(),
            tenant: "default".into(),
            template: None,
            image: "1f".repeat(32),
            configuration: r#"{"image":"web"}"#.into(),
            commit: Some(Commit { sequence: 9, root: [number; 32] }),
            life,
            desired: Desired::Running,
            note: None,
        }
    }

    const PARKED: Life =
        Life::Parked { deadline_real_ns: Some(u64::MAX), pages: 7, interrupted: false };

    #[test]
    fn what_is_written_is_read() {
        for life in [PARKED, Life::Running {}, Life::Stopped {}, Life::Failed {}] {
            let record = record(1, life);
            assert_eq!(Record::parse(&record.to_json().unwrap(), record.id), Ok(record));
        }
        let never = Record { commit: None, ..record(2, Life::Running {}) };
        assert_eq!(Record::parse(&never.to_json().unwrap(), never.id), Ok(never));
        // A number that a quick reader takes for its neighbour.
        let configuration = r#"{"weight":1.6666666666666665e+61}"#.into();
        let exact = Record { configuration, ..record(3, PARKED) };
        assert_eq!(Record::parse(&exact.to_json().unwrap(), exact.id), Ok(exact));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let record = record(1, PARKED);
        let text = String::from_utf8(record.to_json().unwrap()).unwrap();
        let refusal = |from: &str, to: &str| {
            assert!(text.contains(from), "{text}");
            Record::parse(text.replace(from, to).as_bytes(), record.id).unwrap_err()
        };
        for (from, to, why) in [
            (r#""version":2"#, r#""version":3"#, "has version 3"),
            (r#""guest_id":"01"#, r#""guest_id":"02"#, "is of another guest"),
            (r#""name":"guest 1""#, r#""name":"""#, "has a name"),
            (r#""name":"guest 1""#, r#""name":"a\nb""#, "has a name"),
            (r#""sequence":9"#, r#""sequence":0"#, "has a commit that is none"),
            (r#""root":"01"#, r#""root":"0x"#, "has a commit that is none"),
            (r#""life""#, r#""live""#, "unknown field"),
        ] {
            let refused = refusal(from, to);
            assert!(refused.starts_with(why), "{refused}");
        }
        let never = Record { commit: None, ..record.clone() };
        let refused = Record::parse(&never.to_json().unwrap(), never.id).unwrap_err();
        assert!(refused.contains("names no commit"), "{refused}");
        assert!(Record::parse(b"", record.id).is_err());
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_are_no_record_or_one(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Record::parse(&bytes, GuestId([1; 16]));
        }

        #[test]
        fn records_that_were_changed_are_no_record_or_one(at in 0_usize..400, byte: u8) {
            let record = record(1, PARKED);
            let mut text = record.to_json().unwrap();
            let at = at % text.len();
            text[at] = byte;
            if let Ok(read) = Record::parse(&text, record.id) {
                prop_assert_eq!(read.id, record.id);
            }
        }
    }
}
