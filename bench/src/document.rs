//! Writes what was measured into docs/performance.md, between a pair of markers.

use crate::figures::Figures;
use crate::options::CommonOptions;
use crate::running::unless_ending;
use crate::targets;
use anyhow::{Context, Result};
use serde_json::Value;
use std::fs;
use std::path::Path;

/// The document, whose generated parts lie between `<!-- bench:NAME -->` and `<!-- /bench:NAME -->`.
const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/performance.md");

/// Says what missed its bound, and prints or writes what was measured, as the options say: `parts` are the parts
/// of the document by name.
pub(crate) fn finish(
    options: &CommonOptions,
    figures: &Figures,
    parts: &[(&str, String)],
) -> Result<()> {
    finish_with(options, figures, &figures.json(), parts)
}

/// The same with what programs read.
pub(crate) fn finish_with(
    options: &CommonOptions,
    figures: &Figures,
    json: &Value,
    parts: &[(&str, String)],
) -> Result<()> {
    unless_ending();
    for line in targets::missed(figures) {
        eprintln!("missed: {line}");
    }
    if options.json {
        println!("{json}");
        return Ok(());
    }
    for (name, text) in parts {
        println!("{text}");
        if options.writes() {
            write(name, text)?;
        }
    }
    Ok(())
}

/// Replaces the part called `name` of the document.
fn write(name: &str, text: &str) -> Result<()> {
    let path = Path::new(DOCUMENT);
    let old = fs::read_to_string(path).with_context(|| format!("cannot read {DOCUMENT}"))?;
    let new = replace(&old, name, text)
        .with_context(|| format!("{DOCUMENT} has no part between the markers of bench:{name}"))?;
    // A new file takes the old one's place at once, so that the document is never half written.
    let mut draft = path.to_path_buf();
    draft.set_extension("md.new");
    fs::write(&draft, new).with_context(|| format!("cannot write {}", draft.display()))?;
    fs::rename(&draft, path).with_context(|| format!("cannot write {DOCUMENT}"))?;
    eprintln!("written to docs/performance.md");
    Ok(())
}

fn replace(document: &str, name: &str, text: &str) -> Option<String> {
    let (open, close) = (format!("<!-- bench:{name} -->"), format!("<!-- /bench:{name} -->"));
    let start = document.find(&open)? + open.len();
    let end = start + document[start..].find(&close)?;
    Some(format!("{}\n{}\n{}", &document[..start], text.trim_end(), &document[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_markers_changes() {
        let old = "a\n<!-- bench:x -->old<!-- /bench:x -->\nb <!-- bench:y --><!-- /bench:y -->";
        let new = replace(old, "x", "new\n\n").unwrap();
        let expected =
            "a\n<!-- bench:x -->\nnew\n<!-- /bench:x -->\nb <!-- bench:y --><!-- /bench:y -->";
        assert_eq!(new, expected);
        assert_eq!(replace(&new, "x", "new").as_deref(), Some(expected));
        assert_eq!(replace(old, "z", "new"), None);
    }

    #[test]
    fn the_document_has_both_parts() {
        let document = fs::read_to_string(DOCUMENT).unwrap();
        for name in [
            "startup",
            "http",
            "net",
            "block",
            "wake",
            "idle",
            "game",
            "swap",
            "fleet",
            "fleet-registered",
            "gatekeeper",
        ] {
            assert!(replace(&document, name, "x").is_some(), "{name}");
        }
    }
}
