//! Whether what a request names can be names, patterns and paths at all.

use crate::limits::{GUESTS, NAME_BYTES, PATH_BYTES, PATTERNS};
use denali_client::{Act, Create};
use denali_config::Document;
use std::path::{Component, Path};

/// What is wrong with this name of a guest or tenant, if something is: it has 1 to 64 letters, digits, `-`,
/// `_` or `.`, and begins with none of `-` and `.`, so that it is the name of a file, and no option.
#[must_use]
pub fn name_is_wrong(name: &str) -> Option<String> {
    let plain = name.bytes().all(plain);
    if name.is_empty() || name.len() > NAME_BYTES || !plain || name.starts_with(['.', '-']) {
        return Some(format!(
            "{} is not a name: 1 to {NAME_BYTES} letters, digits, \"-\", \"_\" or \".\", that does not begin \
             with \"-\" or \".\"",
            shown(name)
        ));
    }
    None
}

/// What is wrong with this pattern of names, if something is: it has 1 to 64 characters, which names may have
/// or are `*` or `?`.
#[must_use]
pub fn pattern_is_wrong(pattern: &str) -> Option<String> {
    let fits = pattern.bytes().all(|byte| plain(byte) || matches!(byte, b'*' | b'?'));
    if pattern.is_empty() || pattern.len() > NAME_BYTES || !fits {
        return Some(format!(
            "{} is not a pattern: 1 to {NAME_BYTES} letters, digits, \"-\", \"_\", \".\", \"*\" or \"?\"",
            shown(pattern)
        ));
    }
    None
}

fn plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)
}

/// A text of others as a message has it.
fn shown(text: &str) -> String {
    let mut start: String = text.chars().take(NAME_BYTES).collect();
    if start.len() < text.len() {
        start.push('…');
    }
    format!("{start:?}")
}

/// Whether guests like these can be created at all. The message begins with the field's name.
pub(crate) fn create(create: &Create) -> Result<(), String> {
    refuse("name", name_is_wrong(&create.name))?;
    if !(1..=GUESTS).contains(&create.count) {
        return Err(format!("count: {} is not 1 to {GUESTS}", create.count));
    }
    let longest = create.name.len() + 1 + create.count.to_string().len();
    if create.count > 1 && longest > NAME_BYTES {
        return Err(format!(
            "name: with \"-{}\" behind it it is longer than {NAME_BYTES} characters",
            create.count
        ));
    }
    refuse("tenant", name_is_wrong(&create.tenant))?;
    if let Some(template) = &create.template {
        refuse("template", path_is_wrong(template))?;
    }
    match &create.configuration {
        Some(value) => configuration(&value.to_string()),
        None if create.template.is_some() => Ok(()),
        None => Err("configuration: is missing, and there is no template".into()),
    }
}

/// Whether this is a configuration, and names paths that mean the same everywhere.
fn configuration(text: &str) -> Result<(), String> {
    let document = Document::parse(text.as_bytes(), "configuration", "/".into())
        .map_err(|error| error.to_string())?;
    let config = document.config().map_err(|error| error.to_string())?;
    let wrong = config.paths().into_iter().find_map(|path| path_is_wrong(Path::new(&path)));
    refuse("configuration", wrong)
}

/// Whether guests can be asked for this. The message begins with the field's name.
pub(crate) fn act(act: &Act) -> Result<(), String> {
    if act.guests.is_empty() {
        return Err("guests: is empty; \"*\" stands for all".into());
    }
    patterns("guests", &act.guests)
}

/// Whether these are patterns, and not too many.
pub(crate) fn patterns(field: &str, patterns: &[String]) -> Result<(), String> {
    if patterns.len() > PATTERNS {
        return Err(format!("{field}: more than {PATTERNS} patterns"));
    }
    for (index, pattern) in patterns.iter().enumerate() {
        refuse(&format!("{field}[{index}]"), pattern_is_wrong(pattern))?;
    }
    Ok(())
}

/// What is wrong with this path, if something is.
fn path_is_wrong(path: &Path) -> Option<String> {
    let text = path.to_string_lossy();
    let wrong = if !path.is_absolute() {
        "is not an absolute path"
    } else if path.components().any(|component| component == Component::ParentDir) {
        "has \"..\" in it"
    } else if text.len() > PATH_BYTES {
        "is too long"
    } else if text.contains('\0') {
        "has a NUL in it"
    } else {
        return None;
    };
    Some(format!("{} {wrong}", shown(&text)))
}

fn refuse(field: &str, wrong: Option<String>) -> Result<(), String> {
    wrong.map_or(Ok(()), |wrong| Err(format!("{field}: {wrong}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn wrong(value: serde_json::Value) -> String {
        create(&serde_json::from_value(value).unwrap()).unwrap_err()
    }

    #[test]
    fn names_are_names_of_files_and_no_options() {
        for name in ["a", "web-1", "A.b_c", "0", &"x".repeat(64)] {
            assert_eq!(name_is_wrong(name), None);
        }
        for name in [
            "",
            ".",
            "..",
            ".a",
            "-a",
            "a/b",
            "../a",
            "a b",
            "a\0",
            "ä",
            "a*",
            "a\n",
            &"x".repeat(65),
        ] {
            assert!(name_is_wrong(name).is_some(), "{name:?}");
        }
        assert!(name_is_wrong(&"x".repeat(9999)).unwrap().len() < 256);
    }

    #[test]
    fn patterns_have_stars_and_question_marks_too() {
        for pattern in ["*", "web-?", "-*", "*a*b*"] {
            assert_eq!(pattern_is_wrong(pattern), None);
        }
        for pattern in ["", "a/b", "[a]", "a b", &"*".repeat(65)] {
            assert!(pattern_is_wrong(pattern).is_some(), "{pattern:?}");
        }
        let many = vec!["a".to_owned(); PATTERNS + 1];
        assert_eq!(patterns("guests", &many).unwrap_err(), "guests: more than 1024 patterns");
        assert!(act(&Act { action: denali_client::Action::Stop, guests: vec![] }).is_err());
    }

    #[test]
    fn guests_are_created_of_a_configuration_or_a_template() {
        let good = json!({"name": "web", "configuration": {"image": "web"}});
        assert_eq!(create(&serde_json::from_value(good).unwrap()), Ok(()));
        let good = json!({"name": "web", "count": 100_000, "template": "/snapshots/web"});
        assert_eq!(create(&serde_json::from_value(good).unwrap()), Ok(()));
        for (value, message) in [
            (json!({"name": "web"}), "configuration: is missing"),
            (json!({"name": "../web", "template": "/a"}), "name: \"../web\" is not a name"),
            (json!({"name": "web", "tenant": "", "template": "/a"}), "tenant: "),
            (json!({"name": "web", "count": 0, "template": "/a"}), "count: 0"),
            (json!({"name": "web", "count": 100_001, "template": "/a"}), "count: 100001"),
            (json!({"name": "w".repeat(62), "count": 10, "template": "/a"}), "name: with \"-10\""),
            (json!({"name": "web", "template": "a"}), "template: \"a\" is not an absolute path"),
            (
                json!({"name": "web", "template": "/a/../b"}),
                "template: \"/a/../b\" has \"..\" in it",
            ),
        ] {
            let wrong = wrong(value);
            assert!(wrong.starts_with(message), "{wrong}");
        }
    }

    #[test]
    fn paths_in_configurations_mean_the_same_everywhere() {
        for (configuration, message) in [
            (json!({"image": "web.elf"}), "configuration: \"web.elf\" is not an absolute path"),
            (json!({"image": "/srv/../etc/web"}), "configuration: \"/srv/../etc/web\" has"),
            (json!({"image": "web", "control": "c.sock"}), "configuration: \"c.sock\" is not"),
            (
                json!({"image": "web", "swap": {"stripes": ["/a/.."]}}),
                "configuration: \"/a/..\" has",
            ),
            (json!({"image": "web", "memory": []}), "configuration: memory: "),
            (json!({"image": "web", "colour": 1}), "configuration: colour: "),
            (json!([]), "configuration: is not a JSON object"),
        ] {
            let wrong = wrong(json!({"name": "web", "configuration": configuration}));
            assert!(wrong.starts_with(message), "{wrong}");
        }
        // What is no path may look like one.
        let good = json!({"image": "web", "args": "--root ../www"});
        assert_eq!(configuration(&good.to_string()), Ok(()));
    }
}
