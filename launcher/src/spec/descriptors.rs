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
            image: ImageSpec { file, name: _ },
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
            HypervisorSpec::Kvm { device } => visit(device),
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
            Some(ResumeSpec::Snapshot { file }) => visit(file),
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
            [socket, broker].into_iter().for_each(visit)
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
        encrypt: _,
        prefetch: _,
        after_ns: _,
        park: _,
        resident_limit: _,
        userfault,
    } = swap;
    files.iter_mut().chain([key]).chain(userfault).for_each(visit);
}
