//! The web server serving a packed folder from a block device, asked by curl.

use crate::backend::Backend;
use crate::guest::{Guest, Run, program};
use crate::http::Client;
use crate::registry::{Case, Need, Suite};
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;

pub fn suite() -> Suite {
    let each = |name, body| {
        Case::each(name, body).needs(Need::Program("curl")).needs(Need::Program("mke2fs"))
    };
    Suite {
        name: "store",
        cases: vec![
            each("files_are_whole_whatever_their_names", whole),
            each("a_large_file_is_whole", large),
            each("many_small_files_on_one_connection", many),
            each("ranges", ranges),
            each("a_download_is_resumed", resumed),
            each("what_the_client_has_is_not_sent_again", conditional),
            each("head_folders_and_refusals", refusals),
            each("no_path_leads_out", traversal),
            each("links_stay_inside", links),
            each("pipelined_files_keep_their_order", pipelined),
            each("a_client_that_does_not_read_holds_nobody_up", slow),
            each("two_guests_serve_one_image", shared),
            each("an_ext2_image_made_by_mke2fs_alone", plain_ext2),
            each("corrupt_images_are_errors", corrupt),
        ],
    }
}

const LARGE: usize = (24 << 20) + 4321;
const MANY: usize = 600;

/// Names that need care in paths, and the same as a URL has them.
const NAMES: &[(&str, &str)] = &[
    ("plain.txt", "plain.txt"),
    ("with space.txt", "with%20space.txt"),
    ("ümlaut.html", "%C3%BCmlaut.html"),
    ("per%20cent", "per%2520cent"),
    ("question?mark", "question%3Fmark"),
    ("hash#mark", "hash%23mark"),
    ("quote'\"<>", "quote'%22%3C%3E"),
    ("-dash", "-dash"),
    (".hidden", ".hidden"),
    ("...", "..."),
    ("plus+and;comma,", "plus+and;comma,"),
];

/// A folder with all sorts of files, and the image that `denali image pack` makes of it.
struct Site {
    folder: TempDir,
}

impl Site {
    fn root(&self) -> PathBuf {
        self.folder.path().join("site")
    }

    fn image(&self) -> PathBuf {
        self.folder.path().join("site.img")
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.root().join(name)).expect("the test made the file")
    }

    /// A folder with a few files, and `fill` adds more.
    #[track_caller]
    fn new(fill: impl Fn(&Path)) -> Self {
        let site = Self { folder: tempfile::tempdir().expect("a folder can be made") };
        let root = site.root();
        std::fs::create_dir_all(root.join("nested/below")).expect("folders can be made");
        write(&root, "index.html", b"<h1>the index</h1>\n");
        write(&root, "empty.css", b"");
        write(&root, "nested/index.html", b"nested index\n");
        write(&root, "nested/below/deep.json", b"{}\n");
        fill(&root);
        pack(&root, &site.image());
        site
    }

    fn small() -> Self {
        Self::new(|_| {})
    }
}

fn write(root: &Path, name: &str, bytes: &[u8]) {
    std::fs::write(root.join(name), bytes).expect("files can be made");
}

/// Bytes without a pattern that a wrong offset could hide behind.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// Packs a folder into an image.
#[track_caller]
pub fn pack(folder: &Path, image: &Path) {
    let mut command = Command::new(program());
    command.args(["image", "pack"]).arg(folder).arg(image);
    let output = command.output().expect("the denali program starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn web(backend: Backend, image: &Path) -> Run {
    let path = format!("block.0.backend.file.path={}", image.display());
    backend.web().set(path).set("block.0.read_only=true")
}

/// A web server that serves the files of an image, and where.
#[track_caller]
fn serve(backend: Backend, image: &Path) -> (Guest, SocketAddr) {
    let guest = web(backend, image).start();
    let address = guest.address();
    guest.wait_for("serving the files on block0");
    (guest, address)
}

/// What curl got.
struct Got {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Got {
    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }
}

/// Asks curl for a path as it is, with more options.
#[track_caller]
fn curl(address: SocketAddr, path: &str, options: &[&str]) -> Got {
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--include", "--path-as-is", "--globoff"]);
    command.args(["--max-time", "100", "--noproxy", "*"]).args(options);
    command.arg(format!("http://{address}{path}"));
    let output = command.stdin(Stdio::null()).output().expect("curl starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{path} {options:?}: {said}");
    let end = output.stdout.windows(4).position(|four| four == b"\r\n\r\n").expect("a head") + 4;
    let head = String::from_utf8_lossy(&output.stdout[..end]).into_owned();
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    Got { status, head, body: output.stdout[end..].to_vec() }
}

#[track_caller]
fn assert_same(got: &[u8], expected: &[u8]) {
    assert_eq!(got.len(), expected.len(), "bytes");
    let wrong = got.iter().zip(expected).position(|(one, other)| one != other);
    assert_eq!(wrong, None, "the first byte that differs");
}

fn whole(backend: Backend) {
    let site = Site::new(|root| {
        for (name, _) in NAMES {
            write(root, name, name.as_bytes());
        }
        write(root, &"n".repeat(255), b"long name");
    });
    let (_guest, address) = serve(backend, &site.image());
    for (name, path) in NAMES {
        let got = curl(address, &format!("/{path}"), &[]);
        assert_eq!((got.status, got.body.as_slice()), (200, name.as_bytes()), "{name}");
    }
    assert_eq!(curl(address, &format!("/{}", "n".repeat(255)), &[]).body, b"long name");
    for (path, name, media) in [
        ("/", "index.html", "text/html; charset=utf-8"),
        ("/index.html", "index.html", "text/html; charset=utf-8"),
        ("/empty.css", "empty.css", "text/css; charset=utf-8"),
        ("/nested/", "nested/index.html", "text/html; charset=utf-8"),
        ("//nested//below/./deep.json", "nested/below/deep.json", "application/json"),
        ("/nested/below/deep.json?query", "nested/below/deep.json", "application/json"),
    ] {
        let got = curl(address, path, &[]);
        assert_eq!(got.status, 200, "{path}");
        assert_same(&got.body, &site.bytes(name));
        assert_eq!(got.header("content-type"), Some(media), "{path}");
        assert_eq!(got.header("accept-ranges"), Some("bytes"));
    }
}

/// A site with a large file.
fn large_site() -> Site {
    Site::new(|root| write(root, "large.bin", &noise(LARGE)))
}

fn large(backend: Backend) {
    let site = large_site();
    let (guest, address) = serve(backend, &site.image());
    let got = curl(address, "/large.bin", &[]);
    assert_eq!(got.header("content-type"), Some("application/octet-stream"));
    assert_same(&got.body, &noise(LARGE));
    // Where the file lies in pieces, every piece follows the last one.
    let mut client = Client::connect(address);
    assert_same(&client.get("/large.bin").body, &noise(LARGE));
    assert_same(&client.get("/").body, &site.bytes("index.html"));
    guest.signal(libc::SIGTERM);
    assert_eq!(guest.finish().status, 0);
}

fn many(backend: Backend) {
    let site = Site::new(|root| {
        std::fs::create_dir(root.join("many")).expect("a folder can be made");
        for n in 0..MANY {
            write(root, &format!("many/{n}.txt"), format!("file {n}\n").repeat(n % 7).as_bytes());
        }
    });
    let (_guest, address) = serve(backend, &site.image());
    let mut client = Client::connect(address);
    for n in (0..MANY).rev() {
        let got = client.get(&format!("/many/{n}.txt"));
        assert_eq!((got.status, got.text()), (200, &*format!("file {n}\n").repeat(n % 7)));
    }
    assert_eq!(client.get(&format!("/many/{MANY}.txt")).status, 404);
}

fn ranges(backend: Backend) {
    let site = large_site();
    let expected = noise(LARGE);
    let (_guest, address) = serve(backend, &site.image());
    let range = |range: &str| curl(address, "/large.bin", &["--range", range]);
    for (asked, first, last) in [
        ("0-0", 0, 0),
        ("0-99", 0, 99),
        ("4095-4096", 4095, 4096),
        ("1000003-1200002", 1_000_003, 1_200_002),
        ("25169000-", 25_169_000, LARGE - 1),
        ("-1", LARGE - 1, LARGE - 1),
        ("-70000", LARGE - 70_000, LARGE - 1),
        ("25160000-99999999999", 25_160_000, LARGE - 1),
        ("0-", 0, LARGE - 1),
    ] {
        let got = range(asked);
        assert_eq!(got.status, 206, "{asked}");
        let named = format!("bytes {first}-{last}/{LARGE}");
        assert_eq!(got.header("content-range"), Some(&*named));
        assert_same(&got.body, &expected[first..=last]);
    }
    for beyond in [format!("{LARGE}-"), "99999999999-".to_owned()] {
        let got = range(&beyond);
        assert_eq!(got.status, 416, "{beyond}");
        assert_eq!(got.header("content-range"), Some(&*format!("bytes */{LARGE}")));
    }
    let got = curl(address, "/empty.css", &["--range", "0-"]);
    assert_eq!(got.status, 416);
    let several = curl(address, "/index.html", &["--header", "Range: bytes=0-1,4-5"]);
    assert_eq!((several.status, several.body), (200, site.bytes("index.html")));
    let other = ["--range", "0-1", "--header", "If-Range: \"another\""];
    assert_eq!(curl(address, "/index.html", &other).status, 200);
}

fn resumed(backend: Backend) {
    let site = large_site();
    let (_guest, address) = serve(backend, &site.image());
    let expected = noise(LARGE);
    let half = site.folder.path().join("download");
    std::fs::write(&half, &expected[..LARGE / 3]).expect("files can be made");
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--fail", "--noproxy", "*", "--max-time", "100"]);
    command.args(["--continue-at", "-", "--output"]).arg(&half);
    let status = command.arg(format!("http://{address}/large.bin")).status().expect("curl starts");
    assert!(status.success());
    assert_same(&std::fs::read(&half).expect("curl wrote it"), &expected);
}

fn conditional(backend: Backend) {
    let site = Site::small();
    let (_guest, address) = serve(backend, &site.image());
    let got = curl(address, "/index.html", &[]);
    let etag = got.header("etag").expect("an entity tag").to_owned();
    let modified = got.header("last-modified").expect("a date").to_owned();
    assert!(etag.starts_with('"') && etag.ends_with('"'), "{etag}");
    assert_ne!(curl(address, "/nested/", &[]).header("etag"), Some(&*etag));
    assert_eq!(curl(address, "/", &[]).header("etag"), Some(&*etag));
    for (field, status) in [
        (format!("If-None-Match: {etag}"), 304),
        (format!("If-None-Match: \"other\", W/{etag}"), 304),
        ("If-None-Match: *".to_owned(), 304),
        ("If-None-Match: \"other\"".to_owned(), 200),
        (format!("If-Modified-Since: {modified}"), 304),
        ("If-Modified-Since: Thu, 01 Jan 1970 00:00:00 GMT".to_owned(), 200),
        (format!("If-Match: {etag}"), 200),
        ("If-Match: \"other\"".to_owned(), 412),
    ] {
        let got = curl(address, "/index.html", &["--header", &field]);
        assert_eq!(got.status, status, "{field}");
        assert_eq!(got.body.is_empty(), status == 304, "{field}");
        if status == 304 {
            assert_eq!(got.header("etag"), Some(&*etag));
        }
    }
    let saved = site.folder.path().join("etag");
    let saved = saved.to_str().expect("the path is text");
    assert_eq!(curl(address, "/nested/", &["--etag-save", saved]).status, 200);
    assert_eq!(curl(address, "/nested/", &["--etag-compare", saved]).status, 304);
    let fresh = format!("If-Range: {etag}");
    let part = curl(address, "/index.html", &["--range", "4-6", "--header", &fresh]);
    assert_eq!((part.status, part.body.as_slice()), (206, &site.bytes("index.html")[4..=6]));
}

fn refusals(backend: Backend) {
    let site = Site::small();
    let (_guest, address) = serve(backend, &site.image());
    let head = curl(address, "/index.html", &["--head"]);
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(head.header("content-length"), Some("19"));
    assert_eq!(curl(address, "/none", &["--head"]).status, 404);
    for path in ["/none", "/none/", "/index.html/", "/index.html/x", "/nested/below/", "/stats"] {
        assert_eq!(curl(address, path, &[]).status, 404, "{path}");
    }
    let moved = curl(address, "/nested?a=b", &[]);
    assert_eq!((moved.status, moved.header("location")), (301, Some("/nested/?a=b")));
    let moved = curl(address, "//nested", &[]);
    assert_eq!((moved.status, moved.header("location")), (301, Some("/nested/")));
    assert_eq!(curl(address, "/", &["--request", "DELETE"]).status, 405);
    assert_eq!(curl(address, "/", &["--data", "x"]).status, 405);
}

fn traversal(backend: Backend) {
    let site = Site::small();
    let (_guest, address) = serve(backend, &site.image());
    for path in [
        "/../index.html",
        "/nested/../index.html",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/nested/%2e./index.html",
        "/..%2f..%2fetc/passwd",
        "/nested%2findex.html",
        "/index.html%00",
        "/%",
        "/%zz",
    ] {
        assert_eq!(curl(address, path, &[]).status, 400, "{path}");
    }
    assert_eq!(curl(address, "/etc/passwd", &[]).status, 404);
}

fn links(backend: Backend) {
    let site = Site::new(|root| {
        let link = |target: &str, name: &str| {
            symlink(target, root.join(name)).expect("links can be made");
        };
        link("nested/index.html", "relative.html");
        link("/nested", "absolute");
        link("../../../../../../nested/below/deep.json", "above.json");
        link("/etc/passwd", "passwd");
        link("loop", "loop");
        link(&format!("/{}nested/index.html", "./".repeat(100)), "long.html");
    });
    let (_guest, address) = serve(backend, &site.image());
    for path in ["/relative.html", "/absolute/", "/absolute/index.html", "/long.html"] {
        assert_eq!(curl(address, path, &[]).body, site.bytes("nested/index.html"), "{path}");
    }
    assert_eq!(curl(address, "/above.json", &[]).body, b"{}\n");
    assert_eq!(curl(address, "/absolute", &[]).status, 301);
    for path in ["/passwd", "/loop"] {
        assert_eq!(curl(address, path, &[]).status, 404, "{path}");
    }
}

fn pipelined(backend: Backend) {
    let site = large_site();
    let (_guest, address) = serve(backend, &site.image());
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n");
    let part = "GET /large.bin HTTP/1.1\r\nHost: test\r\nRange: bytes=65530-200000\r\n\r\n";
    let mut client = Client::connect(address);
    let requests = [&get("/large.bin"), "HEAD / HTTP/1.1\r\nHost: test\r\n\r\n", part];
    client.send(requests.concat() + &get("/none") + &get("/"));
    client.end_sending();
    assert_same(&client.response().body, &noise(LARGE));
    assert_eq!(client.response_without_body().header("content-length"), Some("19"));
    assert_same(&client.response().body, &noise(LARGE)[65_530..=200_000]);
    assert_eq!(client.response().status, 404);
    assert_same(&client.response().body, &site.bytes("index.html"));
    assert!(client.ends_in_order());
}

fn slow(backend: Backend) {
    let site = large_site();
    let (_guest, address) = serve(backend, &site.image());
    let lazy: Vec<_> = (0..30)
        .map(|_| {
            let mut client = Client::connect(address);
            client.send("GET /large.bin HTTP/1.1\r\nHost: test\r\n\r\n");
            client
        })
        .collect();
    assert_same(&curl(address, "/large.bin", &[]).body, &noise(LARGE));
    let mut last = lazy.into_iter().next_back().expect("there are some");
    assert_same(&last.response().body, &noise(LARGE));
}

fn shared(backend: Backend) {
    let site = large_site();
    let expected = noise(LARGE);
    let guests: Vec<_> = (0..2).map(|_| serve(backend, &site.image())).collect();
    std::thread::scope(|scope| {
        for (_, address) in &guests {
            scope.spawn(|| assert_same(&curl(*address, "/large.bin", &[]).body, &expected));
        }
    });
}

fn plain_ext2(backend: Backend) {
    let site = Site::small();
    write(&site.root(), "large.bin", &noise(3 << 20));
    let image = site.folder.path().join("ext2.img");
    let mut command = Command::new("mke2fs");
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    command.env("PATH", path).args(["-q", "-t", "ext2", "-b", "1024", "-d"]);
    let made = command.arg(site.root()).arg(&image).arg("8M").output().expect("mke2fs starts");
    assert!(made.status.success(), "{made:?}");
    let (_guest, address) = serve(backend, &image);
    assert_same(&curl(address, "/large.bin", &[]).body, &noise(3 << 20));
    let part = curl(address, "/large.bin", &["--range", "-100"]);
    assert_same(&part.body, &noise(3 << 20)[(3 << 20) - 100..]);
}

fn corrupt(backend: Backend) {
    let site = Site::small();
    let sound = std::fs::read(site.image()).expect("the image was made");
    let image = site.folder.path().join("corrupt.img");
    let refused = |bytes: &[u8]| {
        std::fs::write(&image, bytes).expect("files can be made");
        let text = web(backend, &image).expect(1);
        assert!(text.contains("block0: "), "{text}");
        text
    };
    assert!(refused(&vec![0; 1 << 20]).contains("no ext2 or ext4 file system"));
    assert!(refused(&sound[..sound.len() / 2 / 512 * 512]).contains("corrupt"));
    let mut bytes = sound.clone();
    // The checksum of the superblock no longer fits.
    bytes[1024 + 0x78] ^= 1;
    assert!(refused(&bytes).contains("corrupt"));
    // Behind the first group's descriptors nothing is what it was: the guest says so, or serves on.
    bytes.clone_from(&sound);
    bytes[8192..].fill(0xff);
    refused(&bytes);
}
