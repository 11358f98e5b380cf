//! Who may ask: users are told by the kernel. Taking on other users' identities needs root; without it these tests
//! are ignored, and named.

mod support;

use denali_supervisor::Settings;
use libtest_mimic::{Arguments, Trial};
use std::os::unix::fs::PermissionsExt;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use support::{Answer, Client, Server, patience, request};

const ADMIN: u32 = 60_001;
const READER: u32 = 60_002;
const STRANGER: u32 = 60_003;

fn main() -> ExitCode {
    let tests: [(&str, fn()); 4] = [
        ("strangers_are_refused_and_noticed", strangers_are_refused_and_noticed),
        ("readers_look_and_change_nothing", readers_look_and_change_nothing),
        ("the_socket_is_the_owners_alone", the_socket_is_the_owners_alone),
        ("a_user_cannot_take_all_places", a_user_cannot_take_all_places),
    ];
    let root = nix::unistd::geteuid().is_root();
    let trial = |(name, body): (&str, fn())| {
        let name = if root { name.to_owned() } else { format!("{name} [skipped: not root]") };
        let run = move || {
            body();
            Ok(())
        };
        Trial::test(name, run).with_ignored_flag(!root)
    };
    let trials = tests.into_iter().map(trial).collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// Runs `body` as another user, on a thread that is that user's for good.
fn as_user<R: Send>(user: u32, body: impl FnOnce() -> R + Send) -> R {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let none = std::ptr::null::<libc::gid_t>();
            // SAFETY: these change this thread's identity alone, which ends after `body`.
            let changed = unsafe {
                libc::syscall(libc::SYS_setgroups, 0, none)
                    | libc::syscall(libc::SYS_setresgid, user, user, user)
                    | libc::syscall(libc::SYS_setresuid, user, user, user)
            };
            assert_eq!(changed, 0, "{}", std::io::Error::last_os_error());
            body()
        });
        thread.join().unwrap()
    })
}

/// A server with an admin and a reader, in a folder that everybody may enter; and its notices.
fn server(others: bool) -> (Server, Arc<Mutex<Vec<String>>>) {
    let notices = Arc::new(Mutex::new(Vec::new()));
    let taken = notices.clone();
    let notice = Arc::new(move |line: &str| taken.lock().unwrap().push(line.to_owned()));
    let (admins, readers) = if others { (vec![ADMIN], vec![READER]) } else { (vec![], vec![]) };
    let settings =
        Settings { admins, readers, notice, patience: patience(), ..Settings::default() };
    let server = Server::with(settings);
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(server.folder.path(), open).unwrap();
    (server, notices)
}

fn ask(server: &Server, user: u32, method: &str, path: &str, body: &str) -> Answer {
    as_user(user, || server.ask(method, path, body))
}

fn strangers_are_refused_and_noticed() {
    let (server, notices) = server(true);
    server.script.add(["web".into()]);
    for (method, path, body) in [
        ("GET", "/v1/health", ""),
        ("GET", "/metrics", ""),
        ("DELETE", "/v1/guests/web", ""),
        ("POST", "/v1/drain", ""),
        ("POST", "/v1/guests", &*"x".repeat(30_000)),
    ] {
        let answer = ask(&server, STRANGER, method, path, body);
        assert_eq!(answer.code, 403, "{method} {path}");
        let message = answer.message();
        assert!(message.starts_with("user 60003 may not ask this supervisor"), "{message}");
    }
    assert_eq!(server.script.names(), ["web"]);
    assert!(!server.script.drains());
    let notices = notices.lock().unwrap();
    let first = format!("refused user 60003 (process {})", std::process::id());
    assert_eq!(notices.first(), Some(&first));
    assert!(notices.len() <= 2, "not each of them: {notices:?}");
    let metrics = server.get("/metrics").text;
    assert!(metrics.contains("\ndenali_api_strangers_total 5\n"), "{metrics}");
}

fn readers_look_and_change_nothing() {
    let (server, _) = server(true);
    server.script.add(["web".into()]);
    let create = r#"{"name": "new", "template": "/t"}"#;
    for (method, path, body, by_admin) in [
        ("GET", "/v1/guests", "", 200),
        ("GET", "/v1/guests/web", "", 200),
        ("GET", "/v1/host", "", 200),
        ("GET", "/metrics", "", 200),
        ("POST", "/v1/guests", create, 201),
        ("POST", "/v1/actions", r#"{"action": "stop", "guests": ["*"]}"#, 200),
        ("DELETE", "/v1/guests/new", "", 200),
        ("POST", "/v1/drain", "", 202),
    ] {
        let answer = ask(&server, READER, method, path, body);
        assert_eq!(answer.code, if method == "GET" { 200 } else { 403 }, "{method} {path}");
        assert_eq!(ask(&server, ADMIN, method, path, body).code, by_admin, "{method} {path}");
    }
}

fn the_socket_is_the_owners_alone() {
    let (server, _) = server(false);
    let mode =
        |server: &Server| std::fs::metadata(server.socket()).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&server), 0o600);
    let path = server.socket();
    let connected = as_user(STRANGER, || std::os::unix::net::UnixStream::connect(&path));
    assert_eq!(connected.unwrap_err().kind(), std::io::ErrorKind::PermissionDenied);
    // Even if somebody opens it to others, they are told from the owner.
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
    assert_eq!(ask(&server, ADMIN, "GET", "/v1/health", "").code, 403);
    assert_eq!(server.get("/v1/health").code, 200);
    assert_eq!(mode(&self::server(true).0), 0o666);
}

fn a_user_cannot_take_all_places() {
    let (server, _) = server(true);
    let health = request("GET", "/v1/health", "");
    let held: Vec<Client> = as_user(READER, || {
        let connect = || {
            let mut client = server.client();
            (client.ask(&health).code == 200).then_some(client)
        };
        std::iter::from_fn(connect).collect()
    });
    assert_eq!(held.len(), 64);
    assert_eq!(ask(&server, ADMIN, "GET", "/v1/health", "").code, 200);
    assert_eq!(server.get("/v1/health").code, 200);
    assert_eq!(ask(&server, READER, "GET", "/v1/health", "").code, 503);
}
