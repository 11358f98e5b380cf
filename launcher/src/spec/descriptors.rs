//! The descriptors that a machine's description names, to be numbered anew.

use super::{
    BlockBackendSpec, BlockSpec, ConsoleBackendSpec, ConsoleSpec, ControlSpec, HypervisorSpec,
    ImageSpec, MachineSpec, NetBackendSpec, NetSpec, PublishedSocket, ResumeSpec, SwapSpec,
    UserSpec,
};
use std::os::fd::RawFd;

/// What is done with the number of a descriptor.
type Visit<'a> = dyn FnMut(&mut RawFd) + 'a;

impl MachineSpec {
    /// Shows `visit` the number of every descriptor in the description, each once, in an order that depends
    /// on the description alone.
    pub fn descriptors_mut(&mut self, visit: &mut Visit<'_>) {
        // Every field is named, here and below, so that a new one is not forgotten.
        let Self {
            name: _,
            hypervisor,
            memory_size: _,
            image: ImageSpec { file, name: _, hash: _ },
            arguments: _,
            net,
            block,
            console,
            entropy: _,
            cpu: _,
            output: _,
            report,
            swap,
            control,
            resume,
            boot_id: _,
        } = self;
        visit(file);
        match hypervisor {
            HypervisorSpec::Kvm { device, .. } => visit(device),
            HypervisorSpec::Process => {}
        }
        net.iter_mut().for_each(|net| of_net(net, visit));
        block.iter_mut().for_each(|block| of_block(block, visit));
        console.iter_mut().for_each(|console| of_console(console, visit));
        report.iter_mut().for_each(&mut *visit);
        swap.iter_mut().for_each(|swap| of_swap(swap, visit));
        let ControlSpec { listener, channel, configuration: _ } = control;
        listener.iter_mut().chain(channel).for_each(&mut *visit);
        match resume {
            // The last of all: a guest that has been parked does without it, and the others keep their numbers.
            Some(ResumeSpec::Snapshot { file, state: _, memory: _ }) => visit(file),
            Some(ResumeSpec::Parked { commit: _ }) | None => {}
        }
    }
}

fn of_net(net: &mut NetSpec, visit: &mut Visit<'_>) {
    match &mut net.backend {
        NetBackendSpec::User(UserSpec { publish, max_connections: _, broker, resolves: _ }) => {
            for port in publish {
                let (PublishedSocket::Tcp(socket) | PublishedSocket::Udp(socket)) =
                    &mut port.socket;
                visit(socket);
            }
            broker.iter_mut().for_each(visit);
        }
        NetBackendSpec::Tap { tap } => visit(tap),
        NetBackendSpec::Socket { socket } => visit(socket),
        NetBackendSpec::VhostUser { socket, broker } => {
            [socket, broker].into_iter().for_each(visit);
        }
    }
}

fn of_block(block: &mut BlockSpec, visit: &mut Visit<'_>) {
    match &mut block.backend {
        BlockBackendSpec::File { file, direct: _, io: _ } => visit(file),
        BlockBackendSpec::VhostUser { socket, broker } => {
            [socket, broker].into_iter().for_each(visit);
        }
    }
}

fn of_console(console: &mut ConsoleSpec, visit: &mut Visit<'_>) {
    match &mut console.backend {
        ConsoleBackendSpec::Terminal => {}
        ConsoleBackendSpec::File { input, output } => {
            input.iter_mut().chain(output).for_each(visit);
        }
        ConsoleBackendSpec::Socket { listener } => visit(listener),
    }
}

fn of_swap(swap: &mut SwapSpec, visit: &mut Visit<'_>) {
    let SwapSpec {
        files,
        direct: _,
        unit: _,
        capacity: _,
        state_max: _,
        guest_id: _,
        key,
        wrapped: _,
        lasting: _,
        encrypt: _,
        prefetch: _,
        after_ns: _,
        park: _,
        resident_limit: _,
        userfault,
    } = swap;
    files.iter_mut().chain([key]).chain(userfault).for_each(visit);
}

#[cfg(test)]
mod tests {
    use super::super::*;
    use serde_json::{Value, json};

    /// Descriptors have larger numbers than anything else in the machine below.
    const LEAST: RawFd = 1_000_000;

    /// A machine with all kinds of descriptors, each with a number of its own, and no other number as large.
    fn machine() -> MachineSpec {
        let mut next = LEAST;
        let mut number = || {
            next += 1;
            next
        };
        let limit = json!({"bandwidth": null, "ops": null});
        let net = |backend: Value| {
            json!({"name": "n", "mac": [2, 0, 0, 0, 0, 1], "mtu": 1500, "address": "10.0.2.15",
                "prefix_len": 24, "gateway": "10.0.2.2", "receive_limit": limit,
                "transmit_limit": limit, "backend": backend})
        };
        let publish = json!([
            {"socket": {"tcp": number()}, "guest_port": 80},
            {"socket": {"udp": number()}, "guest_port": 81},
        ]);
        let user = json!({"publish": publish, "max_connections": 9, "broker": number(),
            "resolves": true});
        let net = json!([
            net(json!({"user": user})),
            net(json!({"tap": {"tap": number()}})),
            net(json!({"socket": {"socket": number()}})),
            net(json!({"vhostuser": {"socket": number(), "broker": number()}})),
        ]);
        let block = |backend: Value| json!({"name": "b", "read_only": false, "limit": limit, "backend": backend});
        let block = json!([
            block(json!({"file": {"file": number(), "direct": true, "io": "auto"}})),
            block(json!({"vhostuser": {"socket": number(), "broker": number()}})),
        ]);
        let console = json!([
            {"name": "c", "backend": "terminal"},
            {"name": "c", "backend": {"file": {"input": number(), "output": number()}}},
            {"name": "c", "backend": {"socket": {"listener": number()}}},
        ]);
        let swap = json!({"files": [number(), number()], "direct": true, "unit": 65536,
            "capacity": 9, "state_max": 9, "guest_id": "00", "key": number(), "wrapped": "00", "lasting": true,
            "encrypt": true, "prefetch": true, "after_ns": 5, "resident_limit": 64,
            "park": {"after_ns": 6, "horizon_ns": 1}, "userfault": number()});
        let machine = json!({
            "name": "m", "hypervisor": {"kvm": {"device": number(), "shadows": false}}, "memory_size": 65536,
            "image": {"file": number(), "name": "i", "hash": ""}, "arguments": "", "net": net, "block": block,
            "console": console, "entropy": [{"name": "e", "limit": limit}],
            "cpu": {"window_ns": 1, "count": 0, "sleep": true, "spin_ns": 0, "deep_after_ns": 5,
                "niceness": 0, "quantum_ns": 9},
            "output": "human", "report": number(), "swap": swap,
            "control": {"listener": number(), "channel": number(), "configuration": "{}"},
            "resume": {"snapshot": {"file": number(), "state": [4096, 10], "memory": 8192}}, "boot_id": "b",
        });
        serde_json::from_value(machine).unwrap()
    }

    /// The numbers in a description that can be descriptors, sorted.
    fn numbers(value: &Value, found: &mut Vec<RawFd>) {
        match value {
            Value::Number(number) => {
                let number = number.as_i64().unwrap_or(0);
                found.extend(RawFd::try_from(number).ok().filter(|&number| number > LEAST));
            }
            Value::Array(items) => items.iter().for_each(|item| numbers(item, found)),
            Value::Object(fields) => fields.values().for_each(|field| numbers(field, found)),
            _ => {}
        }
        found.sort_unstable();
    }

    #[test]
    fn every_descriptor_is_visited_once() {
        let mut machine = machine();
        let mut written = Vec::new();
        numbers(&serde_json::to_value(&machine).unwrap(), &mut written);
        let mut visited = Vec::new();
        machine.descriptors_mut(&mut |number| visited.push(*number));
        visited.sort_unstable();
        assert_eq!(visited, written);
        assert_eq!(visited.len(), 23, "all kinds");
        let unique: std::collections::HashSet<_> = visited.iter().collect();
        assert_eq!(unique.len(), visited.len());
    }

    #[test]
    fn descriptors_can_be_numbered_anew() {
        let (mut machine, before) = (machine(), machine());
        machine.descriptors_mut(&mut |number| *number -= LEAST);
        let mut written = Vec::new();
        numbers(&serde_json::to_value(&machine).unwrap(), &mut written);
        assert!(written.is_empty(), "{written:?}");
        assert_eq!(machine.report, before.report.map(|number| number - LEAST));
    }

    #[test]
    fn what_a_guest_continues_from_may_be_a_commit() {
        let text = r#"{"parked": {"commit": {"sequence": 7, "root": "00"}}}"#;
        let resume: ResumeSpec = serde_json::from_str(text).unwrap();
        let commit = CommitSpec { sequence: 7, root: "00".into() };
        assert_eq!(resume, ResumeSpec::Parked { commit: Some(commit) });
        let half = r#"{"parked": {"commit": {"sequence": 7}}}"#;
        assert!(serde_json::from_str::<ResumeSpec>(half).is_err());
        let unknown = r#"{"parked": {"commit": null, "file": 3}}"#;
        assert!(serde_json::from_str::<ResumeSpec>(unknown).is_err());
    }
}
