//! The interface as people use it by hand: with curl. Without curl on the machine the test is ignored, and named.

mod support;

use libtest_mimic::{Arguments, Trial};
use std::process::{Command, ExitCode, Stdio};
use support::Server;

fn main() -> ExitCode {
    let found = Command::new("curl").arg("--version").stdout(Stdio::null()).status();
    let missing = !found.is_ok_and(|status| status.success());
    let name = "curl_creates_lists_follows_and_removes";
    let name = if missing { format!("{name} [skipped: no curl]") } else { name.to_owned() };
    let run = || {
        curl_creates_lists_follows_and_removes();
        Ok(())
    };
    let trials = vec![Trial::test(name, run).with_ignored_flag(missing)];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// What curl shows, and the status it was given.
fn curl(server: &Server, words: &[&str]) -> (String, String) {
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--max-time", "60", "--unix-socket"])
        .arg(server.socket())
        .args(["--write-out", "\n%{http_code}"])
        .args(words)
        .output()
        .unwrap();
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let (text, code) = text.rsplit_once('\n').unwrap();
    (text.to_owned(), code.to_owned())
}

fn curl_creates_lists_follows_and_removes() {
    let server = Server::start();
    let create = r#"{"name": "web", "count": 3, "configuration": {"image": "web"}, "start": true}"#;
    let (text, code) = curl(&server, &["--data", create, "http://localhost/v1/guests"]);
    assert_eq!(
        (text.as_str(), code.as_str()),
        ("{\"name\":\"web-1\"}\n{\"name\":\"web-2\"}\n{\"name\":\"web-3\"}\n", "200")
    );
    let (text, _) =
        curl(&server, &["--get", "--data-urlencode", "name=web-?", "http://localhost/v1/guests"]);
    assert_eq!(text.lines().count(), 3);
    let (text, code) = curl(&server, &["--request", "DELETE", "http://localhost/v1/guests/web-2"]);
    assert_eq!((text.as_str(), code.as_str()), (r#"{"name":"web-2"}"#, "200"));
    assert_eq!(server.script.names(), ["web-1", "web-3"]);
    let (text, code) = curl(&server, &["http://localhost/v1/guests/web-2"]);
    assert_eq!(code, "404");
    assert_eq!(text, r#"{"status":122,"message":"web-2: there is no such guest"}"#);
    // More than curl sends before it hears that it may.
    let large = format!("{{\"name\": \"{}\"}}", "x".repeat(3 << 20));
    let file = server.folder.path().join("large");
    std::fs::write(&file, large).unwrap();
    let data = format!("@{}", file.display());
    let (_, code) = curl(&server, &["--data-binary", &data, "http://localhost/v1/guests"]);
    assert_eq!(code, "413");
    let (text, _) = curl(&server, &["http://localhost/metrics"]);
    assert!(text.contains("denali_guests{state=\"running\"} 2"), "{text}");
    let (text, code) = curl(&server, &["--request", "POST", "http://localhost/v1/drain"]);
    assert_eq!((text.as_str(), code.as_str()), ("", "202"));
    assert_eq!(curl(&server, &["http://localhost/v1/health"]).1, "503");
}
