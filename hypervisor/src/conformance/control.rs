//! Control: the monitor's hold over a running guest.

use super::{Backend, DATA, Guest, MEMORY, TEXT, assemble, assert_same, entry};
use crate::{Error, Exit, Registers};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

pub fn registers_can_be_replaced(backend: &Backend) {
    let code = assemble!("ud2", "mov edx, 0xd03", "out dx, eax", "ud2");
    let mut guest = Guest::new(backend, code);
    guest.run_to_fault();
    let mut wanted = Registers { rip: TEXT + 2, rflags: 2, ..Registers::default() };
    for (index, register) in wanted.gpr.iter_mut().enumerate() {
        *register = 0xffff_ff00_8000_0000 + index as u64;
    }
    guest.vcpu.set_registers(&wanted).unwrap();
    assert_same(&guest.registers(), &wanted);
    assert_eq!(guest.run_to_out(), 0x8000_0000);
    wanted.rip = TEXT + 8;
    wanted.gpr[3] = 0xd03;
    assert_same(&guest.registers(), &wanted);
    guest.run_to_fault();
    assert_same(&guest.registers(), &wanted);
    // After an OUT, too, where RIP has moved already.
    guest.change(|registers| registers.rip = TEXT + 2);
    guest.run_to_out();
    guest.change(|registers| (registers.rip, registers.gpr[0]) = (TEXT + 2, 9));
    assert_eq!(guest.run_to_out(), 9);
}

pub fn a_second_cpu_is_refused(backend: &Backend) {
    let mut guest = Guest::new(backend, assemble!("ud2"));
    assert!(matches!(guest.vm.create_vcpu(&entry()), Err(Error::Misuse(_))));
    guest.run_to_fault();
}

/// Has a signal with a handler come to this thread again and again until dropped.
struct Signals<'scope> {
    stop: &'scope AtomicBool,
}

impl Drop for Signals<'_> {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
    }
}

/// Installs `handler` for SIGUSR1 without SA_RESTART, and sends it to this thread every 2 ms while
/// `body` runs.
pub fn with_signals(handler: extern "C" fn(libc::c_int), body: impl FnOnce()) {
    // SAFETY: zero is a valid action, filled in below; the handler does only what handlers may.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as *const () as usize;
        assert_eq!(libc::sigaction(libc::SIGUSR1, &raw const action, std::ptr::null_mut()), 0);
    }
    // SAFETY: a plain look-up.
    let thread = unsafe { libc::pthread_self() };
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _signals = Signals { stop: &stop };
        let sent = &stop;
        scope.spawn(move || {
            while !sent.load(Ordering::Acquire) {
                std::thread::sleep(Duration::from_millis(2));
                // SAFETY: the scope keeps the thread alive until this one has ended.
                unsafe { libc::pthread_kill(thread, libc::SIGUSR1) };
            }
        });
        body();
    });
}

pub extern "C" fn ignore(_: libc::c_int) {}

pub fn a_signal_ends_an_endless_loop(backend: &Backend) {
    let code = assemble!("5:", "inc rax", "mov [0x300000], rax", "jmp 5b");
    let mut guest = Guest::new(backend, code);
    with_signals(ignore, || {
        let started = Instant::now();
        for _ in 0..20 {
            assert_eq!(guest.vcpu.run().unwrap(), Exit::Interrupted);
            let registers = guest.registers();
            assert!((TEXT..TEXT + code.len() as u64).contains(&registers.rip));
            // Registers are those of the moment: memory has RAX, or the count before it.
            let mut stored = [0; 8];
            vm_memory::Bytes::read_slice(&*guest.ram, &mut stored, vm_memory::GuestAddress(DATA))
                .unwrap();
            let behind = registers.gpr[0] - u64::from_le_bytes(stored);
            assert!(behind <= 1, "RAX is {behind} ahead of memory");
        }
        assert!(started.elapsed() < Duration::from_secs(20));
    });
    // And it can be sent elsewhere.
    guest.change(|registers| registers.rip = MEMORY);
    assert_eq!(guest.run_to_fault().address, MEMORY);
}

pub fn an_interrupted_guest_can_be_sent_elsewhere(backend: &Backend) {
    let code = assemble!(
        "mov edx, 0xd03",
        "5:",
        "out dx, eax",
        "inc eax",
        "jmp 5b",
        "mov eax, 0x777777",
        "out dx, eax",
        "ud2",
    );
    let elsewhere = TEXT + code.len() as u64 - 8;
    let mut guest = Guest::new(backend, code);
    guest.change(|registers| registers.gpr[0] = 0);
    let (mut expected, mut interrupted) = (0, 0);
    with_signals(ignore, || {
        while interrupted < 200 {
            match guest.vcpu.run().unwrap() {
                Exit::Out { data, .. } => {
                    assert_eq!(data, expected);
                    expected += 1;
                }
                Exit::Interrupted => {
                    interrupted += 1;
                    let before = guest.registers();
                    guest.change(|registers| registers.rip = elsewhere);
                    assert_eq!(guest.run_to_out(), 0x77_7777);
                    guest.vcpu.set_registers(&before).unwrap();
                }
                exit => panic!("{exit:x?} at {:x?}", guest.registers()),
            }
        }
    });
}

pub fn many_exits_in_a_row(backend: &Backend) {
    let code =
        assemble!("mov edx, 0xd03", "xor eax, eax", "5:", "out dx, eax", "inc eax", "jmp 5b");
    let mut guest = Guest::new(backend, code);
    for expected in 0..2000 {
        assert_eq!(guest.run_to_out(), expected);
    }
}

pub fn many_guests_at_once(backend: &Backend) {
    let code = assemble!("mov edx, 0xd03", "5:", "out dx, eax", "inc eax", "jmp 5b");
    let mut guests: Vec<_> = (0..8).map(|_| Guest::new(backend, code)).collect();
    for (index, guest) in guests.iter_mut().enumerate() {
        guest.change(|registers| registers.gpr[0] = index as u64 * 100);
    }
    for round in 0..5 {
        for (index, guest) in guests.iter_mut().enumerate() {
            assert_eq!(guest.run_to_out(), index as u32 * 100 + round);
        }
    }
}

pub fn faults_come_where_they_belong_whatever_signals_come(backend: &Backend) {
    let code = assemble!(
        "5:",
        "ud2",
        "mov eax, [rdi]",
        "int3",
        "jmp 5b",
        "mov eax, 0x777777",
        "mov edx, 0xd03",
        "out dx, eax",
    );
    let elsewhere = TEXT + 7;
    let mut guest = Guest::new(backend, code);
    guest.change(|registers| registers.gpr[5] = 0);
    let mut expected = [(6, TEXT), (14, TEXT + 2), (3, TEXT + 5)].into_iter().cycle();
    let mut interrupted = 0;
    with_signals(ignore, || {
        while interrupted < 300 {
            match guest.vcpu.run().unwrap() {
                Exit::Fault(fault) => {
                    let (vector, rip) = expected.next().unwrap();
                    assert_eq!((fault.vector, guest.registers().rip), (vector, rip));
                    let skip = if vector == 3 { 0 } else { 2 };
                    guest.change(|registers| registers.rip += skip);
                }
                Exit::Interrupted => {
                    interrupted += 1;
                    let before = guest.registers();
                    assert!((TEXT..elsewhere).contains(&before.rip), "{before:x?}");
                    guest.change(|registers| registers.rip = elsewhere);
                    assert_eq!(guest.run_to_out(), 0x77_7777, "interrupted at {before:x?}");
                    guest.vcpu.set_registers(&before).unwrap();
                }
                exit => panic!("{exit:x?} at {:x?}", guest.registers()),
            }
        }
    });
}

pub fn a_guest_beside_a_breakpoint_is_interrupted(backend: &Backend) {
    let mut guest = Guest::new(backend, assemble!("int3", "5:", "jmp 5b"));
    assert_eq!(guest.run_to_fault().vector, 3);
    with_signals(ignore, || assert_eq!(guest.vcpu.run().unwrap(), Exit::Interrupted));
    assert_eq!(guest.registers().rip, TEXT + 1);
}
