//! `denali doctor`: what this host lacks for guests, and what is not safe about it.

mod fleet;
mod folders;
mod groups;
mod host;
mod limits;
mod network;
mod root;
mod swap;

use crate::arguments::DoctorArguments;
use crate::output::{Failure, Format, print, print_json};
use crate::table::Table;
use denali_abi::status::HOST_LACKS;
use denali_config::HostConfig;
use fleet::Fleet;
use root::{Root, User};
use serde_json::{Value, json};
use std::path::PathBuf;

/// Guests for which is looked where nobody says how many there are to be.
const USUAL: u64 = 100;

/// How good it is what was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    /// As it should be.
    Good,
    /// Something works less well, or is less safe.
    Warning,
    /// Something cannot work.
    Severe,
}

impl Verdict {
    fn name(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Warning => "warning",
            Self::Severe => "severe",
        }
    }
}

/// Something that was looked at.
#[derive(Debug)]
struct Finding {
    what: String,
    verdict: Verdict,
    /// What was found; one line.
    text: String,
    /// What to type, or to write where.
    fix: Option<String>,
}

impl Finding {
    fn new(what: impl Into<String>, verdict: Verdict, text: impl Into<String>) -> Self {
        Self { what: what.into(), verdict, text: text.into(), fix: None }
    }

    /// With what to do about it.
    fn fix(self, fix: impl Into<String>) -> Self {
        Self { fix: Some(fix.into()), ..self }
    }
}

/// Looks at the host, and says what it found; fails if something is severe.
pub(crate) fn doctor(arguments: &DoctorArguments) -> Result<(), Failure> {
    let findings = look(arguments)?;
    match arguments.format.format() {
        Format::Human => print(&table(&findings))?,
        Format::Json => print_json(&Value::Array(findings.iter().map(as_json).collect()))?,
    }
    match findings.iter().filter(|finding| finding.verdict == Verdict::Severe).count() {
        0 => Ok(()),
        1 => Err(Failure::new(HOST_LACKS, "something is severe; see above")),
        count => Err(Failure::new(HOST_LACKS, format!("{count} things are severe; see above"))),
    }
}

fn look(arguments: &DoctorArguments) -> Result<Vec<Finding>, Failure> {
    let (root, user) = (Root::new("/"), User::this());
    let config = arguments.config.as_deref().map(HostConfig::read).transpose()?;
    let config =
        config.unwrap_or_else(|| HostConfig { max_running: USUAL, ..HostConfig::of_nothing() });
    let fleet = Fleet {
        guests: arguments.guests.unwrap_or(config.max_running),
        asked: arguments.guests.is_some(),
        kept_free: config.minimum_free.0,
    };
    let mut folders = arguments.swap.clone();
    folders.extend(config.swap.iter().flat_map(|swap| swap.stripes.iter().map(PathBuf::from)));
    let mut findings = host::look(&root);
    findings.extend(network::look(&root, user));
    findings.extend(limits::look());
    findings.extend(fleet::look(&root, user, fleet));
    findings.extend(groups::look(&root, fleet));
    findings.extend(swap::look(&root));
    findings.extend(folders::look(&folders, fleet));
    Ok(findings)
}

/// What was found, and below it what to do about it.
fn table(findings: &[Finding]) -> Table {
    let mut table = Table::default();
    for Finding { what, verdict, text, fix } in findings {
        table.row([what, verdict.name(), text]);
        if let Some(fix) = fix {
            table.row(["", "", &format!("-> {fix}")]);
        }
    }
    table
}

fn as_json(Finding { what, verdict, text, fix }: &Finding) -> Value {
    json!({ "what": what, "verdict": verdict.name(), "text": text, "fix": fix })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::sync::atomic::{AtomicU64, Ordering};

    /// A folder that looks like a host, and is gone when this is.
    pub(super) struct Host {
        folder: PathBuf,
        pub(super) root: Root,
    }

    impl Host {
        /// An empty one.
        pub(super) fn new(name: &str) -> Self {
            static COUNT: AtomicU64 = AtomicU64::new(0);
            let number = COUNT.fetch_add(1, Ordering::Relaxed);
            let name = format!("denali-doctor-{name}-{}-{number}", std::process::id());
            let folder = std::env::temp_dir().join(name);
            fs::create_dir_all(&folder).unwrap();
            Self { root: Root::new(&folder), folder }
        }

        /// A file of it.
        pub(super) fn file(&self, path: &str, content: &str) {
            let path = self.root.path(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
    }

    impl Drop for Host {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }

    /// Asserts that this was found; no fix is wanted where `fix` is empty.
    pub(super) fn assert_told(
        findings: &[Finding],
        what: &str,
        verdict: Verdict,
        text: &str,
        fix: &str,
    ) {
        let found = findings.iter().find(|finding| finding.what == what).unwrap();
        assert_eq!(found.verdict, verdict, "{found:?}");
        assert!(found.text.contains(text) && !found.text.contains('\n'), "{found:?}");
        match &found.fix {
            Some(told) => assert!(!fix.is_empty() && told.contains(fix), "{found:?}"),
            None => assert!(fix.is_empty(), "{found:?}"),
        }
    }

    #[test]
    fn what_is_wrong_is_followed_by_what_to_type() {
        let findings = [
            Finding::new("memory", Verdict::Good, "much"),
            Finding::new("kernel.pid_max", Verdict::Severe, "too little").fix("sysctl -w x"),
        ];
        let text = "memory          good    much\nkernel.pid_max  severe  too little\n                        -> sysctl -w x";
        assert_eq!(table(&findings).to_string(), text);
        let json = as_json(&findings[1]);
        assert_eq!((&json["fix"], &json["verdict"]), (&"sysctl -w x".into(), &"severe".into()));
    }
}
