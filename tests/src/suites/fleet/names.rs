//! Guests that a supervisor refuses: each with a line that says what to do, and nothing of them is left.

use crate::backend::Backend;
use crate::registry::Case;
use crate::supervisor::{Host, Supervisor, create};
use denali_client::{Create, Error, Problem};
use serde_json::json;
use std::path::PathBuf;

/// What is wrong with a request, and what a host lacks, as exit statuses.
const BAD_CONFIG: u8 = 122;
const BAD_IMAGE: u8 = 123;

pub fn cases() -> Vec<Case> {
    vec![
        Case::once("names_that_are_taken_or_none_are_refused", names),
        Case::once("what_guests_are_made_of_is_checked", made_of),
    ]
}

/// Why a request to create guests is refused, as a whole or for each of them.
#[track_caller]
fn refusal(supervisor: &Supervisor<'_>, create: &Create) -> Problem {
    let problem = match supervisor.client().create(create) {
        Err(Error::Refused(problem)) => problem,
        Err(error) => panic!("{create:?}: {error}"),
        Ok(outcomes) => {
            let outcomes: Vec<_> = outcomes.map(|outcome| outcome.expect("an outcome")).collect();
            assert_eq!(outcomes.len(), 1, "{outcomes:?}");
            outcomes[0].error.clone().unwrap_or_else(|| panic!("{create:?} was made"))
        }
    };
    assert!(!problem.message.contains('\n'), "{problem:?}");
    problem
}

#[track_caller]
fn assert_nothing_was_made(host: &Host, supervisor: &Supervisor<'_>, guests: usize) {
    let list = supervisor.client().list::<&str>(&[]).expect("it lists");
    assert_eq!(list.count(), guests);
    let regions = std::fs::read_dir(host.path("state/swap")).expect("a folder").count();
    assert_eq!(regions, guests, "each has one region");
}

fn names() {
    let host = Host::new(Backend::Process);
    let supervisor = host.start();
    let asleep = |name: &str| Create { start: false, ..create(name, 1, host.web()) };
    assert!(supervisor.create(&asleep("web")).iter().all(|outcome| outcome.error.is_none()));
    let problem = refusal(&supervisor, &asleep("web"));
    assert_eq!(problem.status, BAD_CONFIG);
    assert!(problem.message.contains("there is a guest of this name"), "{problem:?}");
    let long = "n".repeat(65);
    for name in
        ["", ".", "..", "../web", "a/b", "/web", "-web", "web*", "a b", "a\0b", "a\nb", &long]
    {
        let problem = refusal(&supervisor, &asleep(name));
        assert_eq!(problem.status, BAD_CONFIG, "{name:?}: {problem:?}");
        assert!(problem.message.contains("name"), "{name:?}: {problem:?}");
        let problem = refusal(&supervisor, &Create { tenant: name.into(), ..asleep("other") });
        assert!(problem.message.contains("tenant"), "{name:?}: {problem:?}");
    }
    for path in ["../state/registry.redb", "..", "a/../../b", "web/../web"] {
        assert!(supervisor.client().inspect(path).is_err(), "{path}");
        assert!(supervisor.client().log(path, None, false).is_err(), "{path}");
    }
    assert_nothing_was_made(&host, &supervisor, 1);
    supervisor.stop();
}

fn made_of() {
    let host = Host::new(Backend::Process);
    let supervisor = host.start();
    let of = |configuration| Create { start: false, ..create("guest", 1, configuration) };
    let with = |field: &str, value| {
        let mut configuration = host.web();
        configuration[field] = value;
        of(configuration)
    };
    for (create, status, says) in [
        (of(json!([])), BAD_CONFIG, "configuration: is not a JSON object"),
        (of(json!({})), BAD_CONFIG, "image: "),
        (with("cpus", json!(2)), BAD_CONFIG, "cpus: "),
        (with("control", json!("/tmp/x")), BAD_CONFIG, "control: is the supervisor's to choose"),
        (with("image", json!("/no/such/image")), BAD_IMAGE, "/no/such/image"),
        (with("image", json!("../../etc/passwd")), BAD_CONFIG, "/etc/passwd"),
        (
            with("net", json!([{ "backend": { "switch": { "publish": ["1:2:3:4"] } } }])),
            BAD_CONFIG,
            "publish",
        ),
    ] {
        let problem = refusal(&supervisor, &create);
        assert_eq!(problem.status, status, "{problem:?}");
        assert!(problem.message.contains(says), "{says}: {problem:?}");
    }
    let from =
        |path: PathBuf| Create { configuration: None, template: Some(path), ..of(json!({})) };
    std::fs::write(host.path("text"), "no snapshot").expect("room for a file");
    for (path, says) in [
        ("web.snapshot".into(), "absolute"),
        ("../web.snapshot".into(), "absolute"),
        (host.path("no.snapshot"), "no.snapshot"),
        (host.path("state/../text"), "text"),
        (host.path("state"), "state"),
        ("/dev/zero".into(), "/dev/zero"),
    ] {
        let problem = refusal(&supervisor, &from(path));
        assert!(problem.message.contains(says), "{says}: {problem:?}");
    }
    assert_nothing_was_made(&host, &supervisor, 0);
    supervisor.stop();
}
