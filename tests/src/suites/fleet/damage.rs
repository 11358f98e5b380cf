//! What a supervisor finds damaged, taken or lost: it says so in a line, and makes nothing worse.

use crate::backend::Backend;
use crate::lines::Lines;
use crate::registry::Case;
use crate::supervisor::{Host, create};
use denali_client::{Action, Create, GuestState};
use serde_json::json;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;

pub fn cases() -> Vec<Case> {
    vec![
        Case::once("a_damaged_registry_is_named_and_left", registry),
        Case::once("a_second_supervisor_of_a_state_is_refused", second),
        Case::once("folders_that_others_can_write_are_refused", folders),
        Case::each("a_guest_whose_swap_folder_is_lost_waits_for_it_and_no_other", lost_folder),
    ]
}

const HOST_LACKS: i32 = 124;
const BAD_CONFIG: i32 = 122;

fn registry() {
    let host = Host::new(Backend::Process);
    let supervisor = host.start();
    let asked = Create { start: false, ..create("web", 5, host.web()) };
    assert_eq!(supervisor.create(&asked).len(), 5);
    supervisor.stop();
    let path = host.path("state/registry.redb");
    let whole = fs::read(&path).expect("a registry");
    let mut turned = whole.clone();
    turned.iter_mut().take(512).for_each(|byte| *byte = !*byte);
    for damaged in [&whole[..whole.len() / 2], &whole[..100], &turned[..], b"somebody's text"] {
        fs::write(&path, damaged).expect("room for it");
        let says = host.refuses(HOST_LACKS);
        assert!(says.starts_with("denali: ") && says.contains("registry.redb"), "{says}");
        assert_eq!(fs::read(&path).expect("it is there"), damaged, "nothing is written over it");
    }
    fs::write(&path, whole).expect("room for it");
    let supervisor = host.start();
    assert_eq!(supervisor.client().list::<&str>(&[]).expect("it lists").count(), 5);
    supervisor.stop();
}

fn second() {
    let host = Host::new(Backend::Process);
    let supervisor = host.start();
    supervisor.add("web", host.web());
    let process = supervisor.pid("web");
    let says = host.refuses(HOST_LACKS);
    assert!(says.contains("another keeper uses") && says.contains("/state"), "{says}");
    assert_eq!(supervisor.pid("web"), process);
    let health = supervisor.client().health();
    assert!(health.is_ok(), "its socket is its own still: {health:?}");
    supervisor.stop();
}

fn folders() {
    let host = Host::new(Backend::Process);
    for name in ["state", "run", "logs"] {
        let path = host.path(name);
        fs::create_dir_all(&path).expect("a folder");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).expect("it is ours");
        let says = host.refuses(HOST_LACKS);
        assert!(says.contains(&format!("/{name}")) && says.contains("chmod"), "{says}");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).expect("it is ours");
    }
    File::create(host.path("a-file")).expect("a file");
    let file = host.path("a-file");
    let host = host.with("state", file.to_str().expect("UTF-8"));
    assert!(host.refuses(HOST_LACKS).contains("/a-file"));
    let host = host.with("states", "x");
    assert!(host.refuses(BAD_CONFIG).contains("host.json: states: "));
}

fn lost_folder(backend: Backend) {
    let host = Host::new(backend);
    let supervisor = host.start();
    let (folder, away) = (host.path("stripe0"), host.path("away"));
    let mut poor = host.probe();
    poor["swap"] = json!({ "stripes": [folder] });
    supervisor.add("poor", poor);
    supervisor.add("other", host.probe());
    let sums = ["poor", "other"].map(|name| supervisor.check(name).sum);
    supervisor.must(Action::Park, &["poor", "other"]);
    supervisor.stop();
    fs::rename(&folder, &away).expect("a folder can be moved");
    let supervisor = host.start();
    let outcome = supervisor.act(Action::Wake, &["poor"]).remove(0);
    let problem = outcome.error.expect("its memory is not there");
    assert!(problem.message.contains(folder.to_str().expect("UTF-8")), "{problem:?}");
    let view = supervisor.view("poor");
    assert_eq!(view.state, GuestState::Failed);
    assert_eq!(view.note.as_deref(), Some(&*problem.message));
    let checked = supervisor.check("other");
    assert_eq!((checked.count, &checked.sum), (2, &sums[1]));
    // Nothing is lost that is on the disk: it is there when the folder is.
    supervisor.stop();
    fs::rename(&away, &folder).expect("a folder can be moved");
    let supervisor = host.start();
    supervisor.must(Action::Wake, &["poor"]);
    let checked = Lines::connect(supervisor.address("poor")).check();
    assert_eq!((checked.count, &checked.sum), (2, &sums[0]));
    supervisor.stop();
}
