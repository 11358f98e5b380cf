//! What each mistake in a configuration is answered with: one line that names the field.

use denali_config::{Document, Guest, Span, Window};
use std::path::PathBuf;

fn guest(text: &str) -> Result<Guest, String> {
    let error = |error: denali_config::ConfigError| error.to_string();
    let document = Document::parse(text.as_bytes(), "vm.json", "vms".into()).map_err(error)?;
    document.guest().map_err(error)
}

/// A configuration with one network device whose fields are `fields`.
fn with_net(fields: &str) -> String {
    format!(r#"{{"image": "web", "net": [{{{fields}, "backend": {{"user": {{}}}}}}]}}"#)
}

/// A configuration with these published ports.
fn with_publish(ports: &str) -> String {
    format!(r#"{{"image": "web", "net": [{{"backend": {{"user": {{"publish": {ports}}}}}}}]}}"#)
}

fn assert_refused(text: &str, expected: &str) {
    let message = guest(text).expect_err(text);
    assert!(message.starts_with("vm.json: "), "{message}");
    assert!(message.contains(expected), "{text}\nsays {message:?}\n not {expected:?}");
    assert!(!message.contains('\n'), "{message}");
}

#[test]
fn malformed_json_names_line_and_column() {
    for (text, expected) in [
        ("", "vm.json: not valid JSON: EOF while parsing a value at line 1 column 0"),
        ("{\n  \"image\": \"web\",\n}", "not valid JSON: trailing comma at line 3 column 1"),
        ("{\"image\": \"web\"} x", "not valid JSON: trailing characters at line 1 column 18"),
        ("{\"image\": \"a\", \"image\": \"b\"}", "field \"image\" is there twice at line 1 column"),
        ("[]", "vm.json: is not a JSON object"),
        ("{\"image\": \"\u{0}\"}", "not valid JSON: control character"),
    ] {
        assert_refused(text, expected);
    }
}

#[test]
fn unknown_fields_at_every_level_have_their_full_path() {
    for (text, expected) in [
        (
            r#"{"image": "web", "memroy": 1}"#.to_owned(),
            "vm.json: memroy: unknown field (did you mean \"memory\"?); the fields here are name, ",
        ),
        (with_net(r#""ip": "10.0.2.15/24""#), "net[0].ip: unknown field; the fields here are"),
        (
            r#"{"image": "web", "net": [{"backend": {"user": {"publsh": []}}}]}"#.to_owned(),
            "net[0].backend.user.publsh: unknown field (did you mean \"publish\"?)",
        ),
        (
            r#"{"image": "web", "net": [{"backend": {"tup": {}}}]}"#.to_owned(),
            "net[0].backend: \"tup\" is not \"user\" or \"tap\" or \"vhost-user\" or \"socket\" or \"switch\" (did you mean",
        ),
        (r#"{"image": "web", "a b\n": 1}"#.to_owned(), "\"a b\\n\": unknown field"),
    ] {
        assert_refused(&text, expected);
    }
}

#[test]
fn wrong_types_and_missing_fields_are_named() {
    for (text, expected) in [
        ("{}".to_owned(), "vm.json: image: is missing; it is required"),
        (r#"{"image": 7}"#.to_owned(), "image: 7 where a string is wanted"),
        (r#"{"image": "web", "net": {}}"#.to_owned(), "net: an object where a list is wanted"),
        (r#"{"image": "web", "net": [7]}"#.to_owned(), "net[0]: 7 where an object is wanted"),
        (r#"{"image": "web", "net": [{}]}"#.to_owned(), "net[0].backend: is missing"),
        (r#"{"image": "web", "args": ["a"]}"#.to_owned(), "args: a list where a string is wanted"),
        (r#"{"image": "web", "memory": true}"#.to_owned(), "memory: true where a size such as"),
        (r#"{"image": "web", "hypervisor": "xen"}"#.to_owned(), "hypervisor: \"xen\" is not "),
        (with_net(r#""mtu": -1"#), "net[0].mtu: -1 where a whole number is wanted"),
        (with_net(r#""mtu": 1500.5"#), "net[0].mtu: 1500.5 where a whole number is wanted"),
        (with_net(r#""mtu": "1500""#), "net[0].mtu: \"1500\" where a whole number is wanted"),
        (with_publish("[8080]"), "publish[0]: 8080 where a text such as"),
        (
            r#"{"image": "web", "net": [{"backend": "user"}]}"#.to_owned(),
            "net[0].backend: write {\"user\": {}}",
        ),
        (
            r#"{"image": "web", "net": [{"backend": {}}]}"#.to_owned(),
            "net[0].backend: an object where one of user, tap, vhost-user, socket, switch is wanted",
        ),
    ] {
        assert_refused(&text, expected);
    }
}

#[test]
fn impossible_values_are_named() {
    let long = "x".repeat(4097);
    for (text, expected) in [
        (r#"{"image": ""}"#.to_owned(), "image: is not a path or the name"),
        (r#"{"image": "web", "name": ""}"#.to_owned(), "name: \"\" is not a name"),
        (r#"{"image": "web", "memory": "16MB"}"#.to_owned(), "memory: \"16MB\" has no unit of KiB"),
        (r#"{"image": "web", "memory": "-1MiB"}"#.to_owned(), "is not a whole number and a unit"),
        (r#"{"image": "web", "memory": "5GiB"}"#.to_owned(), "memory: 5GiB is more than the 4GiB"),
        (r#"{"image": "web", "memory": "99999999999GiB"}"#.to_owned(), "is more than any guest"),
        (
            r#"{"image": "web", "memory": "1MiB"}"#.to_owned(),
            "memory: 1MiB is less than the 2052KiB",
        ),
        (r#"{"image": "web", "memory": 4194305}"#.to_owned(), "is not a multiple of 4KiB"),
        (format!(r#"{{"image": "web", "args": "{long}"}}"#), "args: has 4097 bytes; at most 4096"),
        (with_net(r#""mtu": 500"#), "net[0].mtu: 500 is out of range; write a number from 576 to"),
        (with_net(r#""mtu": 65536"#), "net[0].mtu: 65536 is out of range"),
        (with_net(r#""mac": "02:00""#), "net[0].mac: \"02:00\" is not a MAC address"),
        (with_net(r#""mac": "01:00:00:00:00:01""#), "is not the address of one device"),
        (with_net(r#""address": "10.0.2.15""#), "net[0].address: \"10.0.2.15\" has no prefix"),
        (with_net(r#""address": "10.0.2.15/31""#), "has a prefix length that is not 1 to 30"),
        (with_net(r#""address": "10.0.2.255/24""#), "is not an address that a host can have"),
        (with_net(r#""address": "127.0.0.1/8""#), "is not an address that a host can have"),
        (with_net(r#""gateway": "10.0.3.1""#), "net[0].gateway: 10.0.3.1 is not the address of a"),
        (with_net(r#""gateway": "10.0.2.15""#), "net[0].gateway: 10.0.2.15 is the guest's own"),
        (with_net(r#""name": "a b""#), "net[0].name: \"a b\" is not a name"),
        (
            with_publish(r#"["8080:80", "abc"]"#),
            "vm.json: net[0].backend.user.publish[1]: \"abc\" is not HOST:PORT:GUEST_PORT; write \
             e.g. \"127.0.0.1:8080:80\"",
        ),
        (
            with_publish(r#"["8080:80", "127.0.0.1:8080:81"]"#),
            "publish[1]: 127.0.0.1:8080 is taken",
        ),
        (with_publish(r#"["8080:0"]"#), "leads to port 0"),
        (with_publish(r#"["localhost:8080:80"]"#), "is not HOST:PORT:GUEST_PORT"),
        (with_publish(r#"["::1:8080:80"]"#), "is not HOST:PORT:GUEST_PORT"),
        (with_publish(r#"["65536:80"]"#), "is not HOST:PORT:GUEST_PORT"),
        (with_publish(r#"["+80:80"]"#), "is not HOST:PORT:GUEST_PORT"),
        (with_publish(r#"["80:80/"]"#), "has a protocol that is not tcp or udp"),
        (with_publish(r#"["80:80/UDP"]"#), "has a protocol that is not tcp or udp"),
        (with_publish(r#"["80:80/udp/udp"]"#), "has a protocol that is not tcp or udp"),
        (
            with_publish(r#"["8080:80/udp", "8080:80", "127.0.0.1:8080:81/udp"]"#),
            "publish[2]: 127.0.0.1:8080 is taken",
        ),
    ] {
        assert_refused(&text, expected);
    }
}

#[test]
fn devices_may_not_share_names_or_addresses() {
    let device = |fields: &str| format!(r#"{{{fields}"backend": {{"user": {{}}}}}}"#);
    let two = |first: &str, second: &str| {
        format!(r#"{{"image": "web", "net": [{}, {}]}}"#, device(first), device(second))
    };
    assert_refused(&two(r#""name": "net1","#, ""), "net[1].name: net1 is taken");
    assert_refused(
        &two("", r#""mac": "02:00:00:00:00:01","#),
        "net[1].mac: 02:00:00:00:00:01 is taken",
    );
    let many = vec![device(""); 63].join(",");
    assert_refused(
        &format!(r#"{{"image": "web", "net": [{many}]}}"#),
        "net: makes 63 devices in all",
    );
}

#[test]
fn defaults_are_filled_in() {
    let device = r#"{"backend": {"user": {"publish": ["[::1]:8080:80", "0:81/tcp", "0:82/udp"]}}}"#;
    let plain = r#"{"backend": {"user": {}}}"#;
    let guest = guest(&format!(r#"{{"image": "./a.elf", "net": [{device}, {plain}]}}"#)).unwrap();
    assert_eq!(guest.name, "a");
    assert_eq!(guest.image, denali_config::Image::File(PathBuf::from("vms/./a.elf")));
    assert_eq!(guest.memory_size, 16 << 20);
    let [first, second] = &guest.net[..] else { panic!("{:?}", guest.net) };
    assert_eq!((first.name.as_str(), second.name.as_str()), ("net0", "net1"));
    assert_eq!(first.mac.to_string(), "02:00:00:00:00:01");
    assert_eq!(second.address.to_string(), "10.0.3.15/24");
    assert_eq!(first.gateway.to_string(), "10.0.2.2");
    let denali_config::NetBackend::User(user) = &first.backend else {
        panic!("{:?}", first.backend)
    };
    assert_eq!((first.mtu, user.max_connections), (1500, 512));
    assert_eq!(user.publish[0].to_string(), "[::1]:8080:80");
    assert_eq!(user.publish[1].to_string(), "127.0.0.1:0:81");
    assert_eq!(user.publish[2].to_string(), "127.0.0.1:0:82/udp");
    assert!(user.egress.is_empty(), "nothing leads out by default");
}

#[test]
fn a_value_from_the_command_line_is_blamed_on_the_command_line() {
    let mut document = Document::of_image("web");
    document.set("memory=16MB").unwrap();
    let error = document.guest().unwrap_err().to_string();
    assert!(error.starts_with("--set memory=16MB: memory: \"16MB\" has no unit"), "{error}");
    document.set_text("memory", "32MiB", "--memory").unwrap();
    document.publish("8080:80").unwrap();
    document.publish("x").unwrap();
    let error = document.guest().unwrap_err().to_string();
    assert!(error.starts_with("--publish x: net[0].backend.user.publish[1]: \"x\""), "{error}");
    let error = document.set("memory.size=1").unwrap_err().to_string();
    assert!(error.starts_with("--set memory.size=1: memory is a single value"), "{error}");
}

/// A configuration with one block device whose fields are `fields`.
fn with_block(fields: &str) -> String {
    format!(r#"{{"image": "web", "block": [{{{fields}}}]}}"#)
}

/// A configuration with one egress rule whose fields are `fields`.
fn with_egress(fields: &str) -> String {
    format!(
        r#"{{"image": "web", "net": [{{"backend": {{"user": {{"egress": [{{{fields}}}]}}}}}}]}}"#
    )
}

#[test]
fn block_devices_are_checked() {
    let file = r#""backend": {"file": {"path": "a.img"}}"#;
    for (fields, expected) in [
        ("", "block[0].backend: is missing"),
        (r#""backend": {"file": {}}"#, "block[0].backend.file.path: is missing"),
        (r#""backend": {"file": {"path": ""}}"#, "block[0].backend.file.path: is not a path"),
        (
            r#""backend": {"file": {"path": "a", "io": "aio"}}"#,
            "block[0].backend.file.io: \"aio\" is not \"auto\" or \"io_uring\" or \"sync\"",
        ),
        (
            r#""backend": {"vhost-user": "s"}, "rate_limit": {}"#,
            "block[0].rate_limit: is for the vhost-user back end to apply",
        ),
        (
            r#""backend": {"vhost-user": "s"}, "read_only": true"#,
            "block[0].read_only: is for the vhost-user back end",
        ),
        (&format!(r#""name": "a b", {file}"#), "block[0].name: \"a b\" is not a name"),
        (
            &format!(r#"{file}, "rate_limit": {{"ops": {{"size": 0, "refill_time": 5}}}}"#),
            "block[0].rate_limit.ops.size: is 0",
        ),
        (
            &format!(
                r#"{file}, "rate_limit": {{"bandwidth": {{"size": "1MiB", "refill_time": 0}}}}"#
            ),
            "block[0].rate_limit.bandwidth.refill_time: 0 is out of range",
        ),
    ] {
        assert_refused(&with_block(fields), expected);
    }
    let long = format!(r#""backend": {{"vhost-user": "/{}"}}"#, "x".repeat(120));
    assert_refused(&with_block(&long), "block[0].backend.vhost-user: has 121 bytes");
}

#[test]
fn egress_rules_are_checked() {
    for (fields, expected) in [
        ("", "egress[0].to: is missing"),
        (
            r#""to": "10.0.0.1/8""#,
            "to: \"10.0.0.1/8\" does not start at the range's first address; write \"10.0.0.0/8\"",
        ),
        (r#""to": "10.0.0.0/33""#, "has a prefix length that is not 0 to 32"),
        (r#""to": "-x.example""#, "is not an address range or a name"),
        (r#""to": "1.2.3""#, "is not an address range or a name"),
        (r#""to": "host", "ports": 0"#, "ports: 0 is not a port"),
        (r#""to": "host", "ports": []"#, "ports: names no port"),
        (r#""to": "host", "ports": ["9-1"]"#, "ports[0]: \"9-1\" is not a port or a range"),
        (r#""to": "host", "protocol": "icmp""#, "protocol: \"icmp\" is not \"tcp\" or \"udp\""),
    ] {
        assert_refused(&with_egress(fields), expected);
    }
    let unasked = r#"{"image": "web", "net": [{"backend": {"user": {"resolver": "192.0.2.1"}}}]}"#;
    assert_refused(unasked, "net[0].backend.user.resolver: is never asked");
}

#[test]
fn names_and_numbers_are_shared_by_all_kinds_of_devices() {
    let devices = |count: usize, item: &str| vec![item; count].join(", ");
    let consoles = devices(2, r#"{"backend": "terminal"}"#);
    assert_refused(
        &format!(r#"{{"image": "web", "console": [{consoles}]}}"#),
        "console[1].backend: the terminal is taken by an entry before it",
    );
    assert_refused(
        r#"{"image": "web", "entropy": [{"name": "x"}], "console": [{"name": "x", "backend": "terminal"}]}"#,
        "entropy[0].name: x is taken by an entry before it",
    );
    let (nets, entropy) = (devices(60, r#"{"backend": {"user": {}}}"#), devices(3, "{}"));
    assert_refused(
        &format!(r#"{{"image": "web", "net": [{nets}], "entropy": [{entropy}]}}"#),
        "entropy: makes 63 devices in all; at most 62 are possible",
    );
}

#[test]
fn taps_are_named_as_the_host_names_interfaces() {
    for (name, expected) in [
        ("", "net[0].backend.tap: \"\" is not the name of a network interface"),
        ("a/b", "is not the name of a network interface"),
        ("sixteen-letters-", "is not the name of a network interface"),
    ] {
        let text = format!(r#"{{"image": "web", "net": [{{"backend": {{"tap": "{name}"}}}}]}}"#);
        assert_refused(&text, expected);
    }
    let twice =
        r#"{"image": "web", "net": [{"backend": {"tap": "t"}}, {"backend": {"tap": "t"}}]}"#;
    assert_refused(twice, "net[1].backend.tap: t is taken by an entry before it");
}

#[test]
fn times_have_units_and_bounds() {
    for (text, expected) in [
        (r#""cpu": {"quantum": "10us"}"#, "cpu.quantum: 10us is less than 100us"),
        (r#""cpu": {"quantum": "1s"}"#, "cpu.quantum: 1s is more than 100ms"),
        (r#""cpu": {"quantum": "2"}"#, "cpu.quantum: \"2\" has no unit of ns, us, ms or s"),
        (r#""cpu": {"quantum": 2}"#, "cpu.quantum: 2 has no unit of ns, us, ms or s"),
        (r#""cpu": {"weight": 0}"#, "cpu.weight: 0 is not from 1 to 10000"),
        (r#""cpu": {"share": 1}"#, "cpu.share: unknown field; the fields here are weight, quantum"),
        (r#""interrupts": {"window": "1s"}"#, "interrupts.window: 1s is more than 100ms"),
        (r#""interrupts": {"window": "often"}"#, "interrupts.window: \"often\" has no unit"),
        (r#""interrupts": {"count": 5}"#, "interrupts.count: needs a window of its own"),
        (
            r#""interrupts": {"window": "1ms", "count": 65536}"#,
            "interrupts.count: 65536 is not from 0 to 65535",
        ),
        (r#""idle": {"spin": "1s"}"#, "idle.spin: 1s is more than 10ms"),
        (r#""idle": {"deep_after": "86401s"}"#, "idle.deep_after: 86401s is more than 86400s"),
    ] {
        assert_refused(&format!(r#"{{"image": "web", {text}}}"#), expected);
    }
}

#[test]
fn a_guest_is_batched_and_idles_unless_it_says_otherwise() {
    let cpu = guest(r#"{"image": "web"}"#).unwrap().cpu;
    assert_eq!((cpu.window, cpu.count, cpu.sleep, cpu.spin_ns), (Window::Adaptive, 0, true, 0));
    assert_eq!(
        (cpu.deep_after_ns, cpu.weight, cpu.quantum_ns),
        (Some(1_000_000_000), 100, 2_000_000)
    );
    let text = r#"{"image": "web", "interrupts": {"window": 0}, "idle": {"deep_after": 0}}"#;
    let cpu = guest(text).unwrap().cpu;
    assert_eq!((cpu.window, cpu.deep_after_ns), (Window::Fixed(Span(0)), None));
}

/// A configuration with 16MiB of memory and these fields of `swap`.
fn with_swap(fields: &str) -> String {
    format!(r#"{{"image": "web", "swap": {{"stripes": ["/mnt/a", "b"]{fields}}}}}"#)
}

#[test]
fn swapping_is_checked() {
    for (fields, expected) in [
        (r#", "unit": "3KiB""#, "swap.unit: 3KiB is not a power of two from 4KiB to 16MiB"),
        (r#", "unit": "96KiB""#, "swap.unit: 96KiB is not a power of two"),
        (r#", "unit": "32MiB""#, "swap.unit: 32MiB is not a power of two"),
        (r#", "limit": "60KiB""#, "swap.limit: 60KiB is less than 64KiB"),
        (r#", "limit": 65537"#, "swap.limit: 65537 bytes is not a multiple of 4KiB"),
        (
            r#", "limit": "16MiB""#,
            "swap.limit: 16MiB is more than the 15MiB that a guest with 16MiB of memory can use",
        ),
        (r#", "after": "2d""#, "swap.after: \"2d\" has no unit of ns, us, ms or s"),
        (r#", "after": "86401s""#, "swap.after: 86401s is more than 86400s"),
        (r#", "park_after": "86401s""#, "swap.park_after: 86401s is more than 86400s"),
        (r#", "park_horizon": "86401s""#, "swap.park_horizon: 86401s is more than 86400s"),
        (r#", "prefetch": 1"#, "swap.prefetch: 1 where a boolean is wanted"),
        (r#", "key": "k""#, "swap.key: \"k\" is not \"file\" or \"credential\""),
        (r#", "key": {"file": ""}"#, "swap.key.file: is not a path"),
        (r#", "key": {"credential": "../k"}"#, "swap.key.credential: \"../k\" is not the name of"),
        (r#", "key": {"credential": ".."}"#, "swap.key.credential: \"..\" is not the name of"),
        (r#", "key": {"credential": ""}"#, "swap.key.credential: \"\" is not the name of"),
        (r#", "stripe": 1"#, "swap.stripe: unknown field (did you mean \"stripes\"?)"),
    ] {
        assert_refused(&with_swap(fields), expected);
    }
    let many = vec![r#""a""#; 17].join(", ");
    for (stripes, expected) in [
        ("", "swap.stripes: names 0 folders; name 1 to 16"),
        (many.as_str(), "swap.stripes: names 17 folders; name 1 to 16"),
        (r#""a", """#, "swap.stripes[1]: is not a path"),
        (r#""a", "b", "a""#, "swap.stripes[2]: is named by an entry before it"),
    ] {
        let text = format!(r#"{{"image": "web", "swap": {{"stripes": [{stripes}]}}}}"#);
        assert_refused(&text, expected);
    }
    assert_refused(r#"{"image": "web", "swap": {}}"#, "swap.stripes: is missing; it is required");
}

#[test]
fn paging_within_a_guest_is_checked() {
    let with_limit = |fields: &str| {
        format!(r#"{{"image": "web", "swap": {{"stripes": ["a"]}}, "resident_limit": {fields}}}"#)
    };
    for (fields, expected) in [
        (r#""252KiB""#, "resident_limit: 252KiB is less than 256KiB"),
        ("1048577", "resident_limit: 1048577 bytes is not a multiple of 4KiB"),
        (r#""16MiB""#, "resident_limit: 16MiB is not less than the memory of 16MiB"),
        (r#""1MiB", "hypervisor": "process""#, "resident_limit: needs KVM"),
    ] {
        assert_refused(&with_limit(fields), expected);
    }
    assert_refused(
        r#"{"image": "web", "resident_limit": "1MiB"}"#,
        "resident_limit: needs \"swap\"",
    );
}

#[test]
fn memory_that_is_shared_is_not_swapped() {
    let swap = r#""swap": {"stripes": ["a"]}"#;
    let net = r#""net": [{"backend": {"user": {}}}, {"backend": {"vhost-user": "s"}}]"#;
    let block = r#""block": [{"backend": {"vhost-user": "s"}}]"#;
    assert_refused(
        &format!(r#"{{"image": "web", {swap}, {net}}}"#),
        "swap: does not go with net[1].backend.vhost-user: memory that another process shares",
    );
    assert_refused(
        &format!(r#"{{"image": "web", {swap}, "resident_limit": "1MiB", {block}}}"#),
        "resident_limit: does not go with block[0].backend.vhost-user: memory that another",
    );
    guest(&format!(r#"{{"image": "web", {net}, {block}}}"#)).unwrap();
}

#[test]
fn swapping_has_defaults() {
    let swap = guest(&with_swap("")).unwrap().swap.unwrap();
    assert_eq!(swap.stripes, [PathBuf::from("/mnt/a"), PathBuf::from("vms/b")]);
    assert_eq!((swap.unit, swap.limit, swap.after_ns), (64 << 10, None, Some(5_000_000_000)));
    assert_eq!((swap.park, swap.key, swap.resident_limit), (None, None, None));
    assert!(swap.prefetch && swap.encrypt && swap.reserve);

    let all = r#", "unit": "4KiB", "limit": "8MiB", "after": 0, "park_after": "60s",
        "prefetch": false, "encrypt": false, "reserve": false, "key": {"file": "host.key"}"#;
    let swap = guest(&with_swap(all)).unwrap().swap.unwrap();
    assert_eq!((swap.unit, swap.limit, swap.after_ns), (4096, Some(8 << 20), None));
    let park = denali_config::Park { after_ns: 60_000_000_000, horizon_ns: 10_000_000_000 };
    assert_eq!(swap.park, Some(park));
    assert_eq!(swap.key, Some(denali_config::HostKey::File("vms/host.key".into())));
    assert!(!swap.prefetch && !swap.encrypt && !swap.reserve);
}

#[test]
fn control_is_a_socket() {
    let guest_at = |path: &str| guest(&format!(r#"{{"image": "web", "control": "{path}"}}"#));
    assert_eq!(guest_at("web.sock").unwrap().control, Some(PathBuf::from("vms/web.sock")));
    let long = guest_at(&format!("/{}", "x".repeat(107))).unwrap_err();
    assert!(long.starts_with("vm.json: control: has 108 bytes"), "{long}");
}

#[test]
fn a_portable_configuration_means_the_same_elsewhere() {
    let text = r#"{"image": "./a.elf", "control": "c.sock", "swap": {"stripes": ["a", "/b"],
        "key": {"file": "k"}}, "net": [{"backend": {"socket": "n.sock"}}, {"backend": {"tap": "t"}}],
        "block": [{"backend": {"file": {"path": "d.img"}}}],
        "console": [{"backend": {"file": {"output": "out"}}}, {"backend": {"socket": "o.sock"}}]}"#;
    let folder = std::env::current_dir().unwrap().join("vms");
    let mut here = Document::parse(text.as_bytes(), "vm.json", "vms".into()).unwrap();
    here.set("memory=32MiB").unwrap();
    let portable = here.portable().unwrap();
    let elsewhere = Document::parse(portable.as_bytes(), "snapshot", "/elsewhere".into()).unwrap();
    let expected = Document::parse(text.as_bytes(), "vm.json", folder).and_then(|mut document| {
        document.set("memory=32MiB")?;
        document.set("image=a.elf")?;
        document.guest()
    });
    assert_eq!(elsewhere.guest(), expected);
    assert_eq!(elsewhere.portable().unwrap(), portable);
    let built_in = Document::of_image("web").portable().unwrap();
    assert!(built_in.contains(r#""image":"web""#), "{built_in}");
}
