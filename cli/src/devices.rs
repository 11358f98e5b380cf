//! The devices of a guest, as `denali check` shows them.

use crate::table::Table;
use denali_config::{
    Block, BlockBackend, Console, ConsoleBackend, EgressRule, Entropy, Guest, Limit, Net,
    NetBackend, Protocol, Publish, UserBackend,
};
use serde_json::{Value, json};

/// Adds the devices of `guest` to a table for people.
pub(crate) fn describe(table: &mut Table, guest: &Guest) {
    for (number, net) in guest.net.iter().enumerate() {
        describe_net(table, number, net);
    }
    let mut number = guest.net.len();
    for block in &guest.block {
        let rights = if block.read_only { ", read only" } else { "" };
        let limit = limited(block.limit);
        let what = format!("{}: {}{rights}{limit}", block.name, block_backend(&block.backend));
        table.row([format!("block {number}"), what]);
        number += 1;
    }
    for console in &guest.console {
        let what = format!("{}: {}", console.name, console_backend(&console.backend));
        table.row([format!("console {number}"), what]);
        number += 1;
    }
    for entropy in &guest.entropy {
        table.row([
            format!("entropy {number}"),
            format!("{}{}", entropy.name, limited(entropy.limit)),
        ]);
        number += 1;
    }
}

fn describe_net(table: &mut Table, number: usize, net: &Net) {
    let limit = if net.receive_limit == Limit::default() && net.transmit_limit == Limit::default() {
        ""
    } else {
        ", rate limited"
    };
    table.row([
        format!("net {number}"),
        format!(
            "{}: {}, {} by {}, MTU {}, {}{limit}",
            net.name,
            net.mac,
            net.address,
            net.gateway,
            net.mtu,
            net_backend(&net.backend)
        ),
    ]);
    if let NetBackend::User(user) = &net.backend {
        for port in &user.publish {
            let (host, by) = (port.host, suffix(port.protocol));
            table.row([String::new(), format!("{host}{by} leads to port {}", port.guest_port)]);
        }
        for rule in &user.egress {
            table.row([String::new(), format!("may connect to {}", egress(rule))]);
        }
    }
}

fn net_backend(backend: &NetBackend) -> String {
    match backend {
        NetBackend::User(user) => format!("at most {} connections", user.max_connections),
        NetBackend::Tap(name) => format!("tap {name}"),
        NetBackend::VhostUser(path) => format!("vhost-user {}", path.display()),
        NetBackend::Socket(path) => format!("socket {}", path.display()),
        NetBackend::Switch(_) => "the supervisor's switch".into(),
    }
}

fn block_backend(backend: &BlockBackend) -> String {
    match backend {
        BlockBackend::File { path, direct, .. } => {
            format!("{}{}", path.display(), if *direct { ", past the page cache" } else { "" })
        }
        BlockBackend::VhostUser(path) => format!("vhost-user {}", path.display()),
    }
}

fn console_backend(backend: &ConsoleBackend) -> String {
    match backend {
        ConsoleBackend::Terminal => "terminal".into(),
        ConsoleBackend::File { input, output } => {
            let shown = |path: &Option<std::path::PathBuf>| {
                path.as_ref().map_or("nothing".into(), |path| path.display().to_string())
            };
            format!("input from {}, output to {}", shown(input), shown(output))
        }
        ConsoleBackend::Socket(path) => format!("socket {}", path.display()),
    }
}

fn limited(limit: Limit) -> &'static str {
    if limit == Limit::default() { "" } else { ", rate limited" }
}

fn egress(rule: &EgressRule) -> String {
    let ports: Vec<String> = rule.ports.iter().map(|range| port_range(*range)).collect();
    format!("{} by {}, ports {}", rule.to, rule.protocol, ports.join(", "))
}

fn port_range((first, last): (u16, u16)) -> String {
    if first == last { first.to_string() } else { format!("{first}-{last}") }
}

/// What is said behind the host's address of a published port that is not TCP's.
pub(crate) fn suffix(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "",
        Protocol::Udp => "/udp",
    }
}

/// Network devices for programs.
pub(crate) fn net_json(nets: &[Net]) -> Vec<Value> {
    let net = |net: &Net| {
        let mut value = json!({
            "name": net.name,
            "mac": net.mac.to_string(),
            "mtu": net.mtu,
            "address": net.address.to_string(),
            "gateway": net.gateway.to_string(),
            "rate_limit": {
                "receive": limit_json(net.receive_limit),
                "transmit": limit_json(net.transmit_limit),
            },
        });
        match &net.backend {
            NetBackend::User(user) => add_user(&mut value, user),
            NetBackend::Tap(name) => value["tap"] = json!(name),
            NetBackend::VhostUser(path) => value["vhost-user"] = json!(path),
            NetBackend::Socket(path) => value["socket"] = json!(path),
            NetBackend::Switch(switch) => {
                let publish: Vec<Value> = switch.publish.iter().map(port_json).collect();
                value["switch"] = json!({ "publish": publish, "wakes": switch.wakes });
            }
        }
        value
    };
    nets.iter().map(net).collect()
}

fn add_user(value: &mut Value, user: &UserBackend) {
    let publish: Vec<Value> = user.publish.iter().map(port_json).collect();
    let rule = |rule: &EgressRule| {
        let ports: Vec<String> = rule.ports.iter().map(|range| port_range(*range)).collect();
        json!({"to": rule.to.to_string(), "ports": ports, "protocol": rule.protocol.to_string()})
    };
    value["publish"] = publish.into();
    value["max_connections"] = user.max_connections.into();
    value["egress"] = user.egress.iter().map(rule).collect();
    value["resolver"] = json!(user.resolver.map(|resolver| resolver.to_string()));
}

fn port_json(port: &Publish) -> Value {
    let (host, protocol) = (port.host.to_string(), port.protocol.to_string());
    json!({"host": host, "guest_port": port.guest_port, "protocol": protocol})
}

/// Block devices for programs.
pub(crate) fn block_json(blocks: &[Block]) -> Vec<Value> {
    let block = |block: &Block| {
        let mut value = json!({
            "name": block.name,
            "read_only": block.read_only,
            "rate_limit": limit_json(block.limit),
        });
        match &block.backend {
            BlockBackend::File { path, direct, io } => {
                value["file"] = json!({"path": path, "direct": direct, "io": io});
            }
            BlockBackend::VhostUser(path) => value["vhost-user"] = json!(path),
        }
        value
    };
    blocks.iter().map(block).collect()
}

/// Console devices for programs.
pub(crate) fn console_json(consoles: &[Console]) -> Vec<Value> {
    let console = |console: &Console| {
        let backend = match &console.backend {
            ConsoleBackend::Terminal => json!("terminal"),
            ConsoleBackend::File { input, output } => {
                json!({"file": {"input": input, "output": output}})
            }
            ConsoleBackend::Socket(path) => json!({"socket": path}),
        };
        json!({"name": console.name, "backend": backend})
    };
    consoles.iter().map(console).collect()
}

/// Entropy devices for programs.
pub(crate) fn entropy_json(devices: &[Entropy]) -> Vec<Value> {
    let device =
        |device: &Entropy| json!({"name": device.name, "rate_limit": limit_json(device.limit)});
    devices.iter().map(device).collect()
}

fn limit_json(limit: Limit) -> Value {
    let bucket = |bucket: Option<denali_config::Bucket>| {
        bucket.map(|bucket| {
            json!({
                "size": bucket.size,
                "one_time_burst": bucket.one_time_burst,
                "refill_time": bucket.refill_ms,
            })
        })
    };
    json!({"bandwidth": bucket(limit.bandwidth), "ops": bucket(limit.ops)})
}
