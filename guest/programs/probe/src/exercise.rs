//! Exercises: assembly that loads every register, does something, and stores every register again.

use crate::state::{
    FAULT_AT, FCW, HAS_AVX, INPUT, MXCSR, OUTPUT, RED_ZONE, RESUME_AT, RFLAGS, STACK, Shared,
    State, X87, YMM, avx,
};
use core::arch::naked_asm;

/// How often a loop in an exercise goes round; not 0.
pub static ROUNDS: Shared<u64> = Shared::new(1);

static ZERO: u32 = 0;

/// An exercise: called as a C function, it goes from `INPUT` to `OUTPUT`.
pub type Exercise = unsafe extern "C" fn();

/// Runs an exercise from a state; the state it left.
pub fn run(exercise: Exercise, state: State) -> State {
    HAS_AVX.set(u64::from(avx()));
    INPUT.set(state);
    OUTPUT.set(State::ZERO);
    // SAFETY: exercises keep the C calling convention: they save and restore what it says, and
    // give the control registers and the direction flag their usual values.
    unsafe { exercise() };
    OUTPUT.get()
}

/// Numbers of the 16 vector registers and of the 16 words of the red zone.
macro_rules! sixteen {
    () => {
        ".irp i, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15\n"
    };
}

/// Saves what C wants saved, then loads every register; label 2 is what comes next, 3 where faults
/// resume. Nothing after the flags changes them, nor the red zone once it is written.
macro_rules! load {
    () => {
        concat!(
            "push rbx\n push rbp\n push r12\n push r13\n push r14\n push r15\n",
            "mov [rip + {stack}], rsp\n",
            "lea rax, [rip + 2f]\n mov [rip + {fault_at}], rax\n",
            "lea rax, [rip + 3f]\n mov [rip + {resume_at}], rax\n",
            "fninit\n",
            "fldcw [rip + {input} + {fcw}]\n",
            "fld qword ptr [rip + {input} + {x87}]\n",
            "ldmxcsr [rip + {input} + {mxcsr}]\n",
            "cmp qword ptr [rip + {has_avx}], 0\n",
            "je 4f\n",
            sixteen!(),
            "vmovdqu ymm\\i, [rip + {input} + {ymm} + 32*\\i]\n",
            ".endr\n",
            "jmp 5f\n",
            "4:\n",
            sixteen!(),
            "movdqu xmm\\i, [rip + {input} + {ymm} + 32*\\i]\n",
            ".endr\n",
            "5:\n",
            "push qword ptr [rip + {input} + {rflags}]\n",
            "popfq\n",
            sixteen!(),
            "mov rax, [rip + {input} + {red_zone} + 8*\\i]\n",
            "mov [rsp - 128 + 8*\\i], rax\n",
            ".endr\n",
            "mov rax, [rip + {input}]\n",
            "mov rbx, [rip + {input} + 8]\n",
            "mov rcx, [rip + {input} + 16]\n",
            "mov rdx, [rip + {input} + 24]\n",
            "mov rsi, [rip + {input} + 32]\n",
            "mov rdi, [rip + {input} + 40]\n",
            "mov rbp, [rip + {input} + 48]\n",
            "mov r8, [rip + {input} + 64]\n",
            "mov r9, [rip + {input} + 72]\n",
            "mov r10, [rip + {input} + 80]\n",
            "mov r11, [rip + {input} + 88]\n",
            "mov r12, [rip + {input} + 96]\n",
            "mov r13, [rip + {input} + 104]\n",
            "mov r14, [rip + {input} + 112]\n",
            "mov r15, [rip + {input} + 120]\n",
            "2:\n",
        )
    };
}

/// Stores every register, then restores what C wants.
macro_rules! store {
    () => {
        concat!(
            "3:\n",
            "mov [rip + {output}], rax\n",
            "mov [rip + {output} + 8], rbx\n",
            "mov [rip + {output} + 16], rcx\n",
            "mov [rip + {output} + 24], rdx\n",
            "mov [rip + {output} + 32], rsi\n",
            "mov [rip + {output} + 40], rdi\n",
            "mov [rip + {output} + 48], rbp\n",
            "mov [rip + {output} + 56], rsp\n",
            "mov [rip + {output} + 64], r8\n",
            "mov [rip + {output} + 72], r9\n",
            "mov [rip + {output} + 80], r10\n",
            "mov [rip + {output} + 88], r11\n",
            "mov [rip + {output} + 96], r12\n",
            "mov [rip + {output} + 104], r13\n",
            "mov [rip + {output} + 112], r14\n",
            "mov [rip + {output} + 120], r15\n",
            sixteen!(),
            "mov rax, [rsp - 128 + 8*\\i]\n",
            "mov [rip + {output} + {red_zone} + 8*\\i], rax\n",
            ".endr\n",
            "pushfq\n",
            "pop qword ptr [rip + {output} + {rflags}]\n",
            "cld\n",
            "stmxcsr [rip + {output} + {mxcsr}]\n",
            "fnstcw [rip + {output} + {fcw}]\n",
            "fstp qword ptr [rip + {output} + {x87}]\n",
            "cmp qword ptr [rip + {has_avx}], 0\n",
            "je 4f\n",
            sixteen!(),
            "vmovdqu [rip + {output} + {ymm} + 32*\\i], ymm\\i\n",
            ".endr\n",
            "vzeroupper\n",
            "jmp 5f\n",
            "4:\n",
            sixteen!(),
            "movdqu [rip + {output} + {ymm} + 32*\\i], xmm\\i\n",
            ".endr\n",
            "5:\n",
            "fninit\n",
            "push 0x1f80\n",
            "ldmxcsr [rsp]\n",
            "mov rsp, [rip + {stack}]\n",
            "pop r15\n pop r14\n pop r13\n pop r12\n pop rbp\n pop rbx\n",
            "ret\n",
        )
    };
}

/// Defines an exercise by the lines between loading and storing.
macro_rules! exercise {
    ($(#[$doc:meta])* $name:ident: $($line:expr),+ $(; $operand:ident = $what:ident)?) => {
        $(#[$doc])*
        #[unsafe(naked)]
        pub unsafe extern "C" fn $name() {
            naked_asm!(
                load!(),
                $($line,)+
                store!(),
                $($operand = sym $what,)?
                input = sym INPUT,
                output = sym OUTPUT,
                stack = sym STACK,
                fault_at = sym FAULT_AT,
                resume_at = sym RESUME_AT,
                has_avx = sym HAS_AVX,
                red_zone = const RED_ZONE,
                rflags = const RFLAGS,
                x87 = const X87,
                mxcsr = const MXCSR,
                fcw = const FCW,
                ymm = const YMM,
            )
        }
    };
}

exercise! {
    /// Reads address 0x123.
    read_null: "mov cl, byte ptr [0x123]"
}
exercise! {
    /// Writes address 0x123.
    write_null: "mov byte ptr [0x123], cl"
}
exercise! {
    /// Writes to its own first byte.
    write_text: "mov byte ptr [rip + {itself}], cl"; itself = write_text
}
exercise! {
    /// An instruction there is not.
    invalid: "ud2"
}
exercise! {
    /// Divides by zero.
    divide: "div dword ptr [rip + {zero}]"; zero = ZERO
}
exercise! {
    /// A privileged instruction.
    privileged: "hlt"
}
exercise! {
    /// The breakpoint trap.
    breakpoint: "int3"
}
exercise! {
    /// Rings FLUSH [`ROUNDS`] times, without touching the flags.
    ring_flush:
        "mov rcx, [rip + {rounds}]",
        "mov dx, 0xd03",
        "6:",
        "out dx, eax",
        "lea rcx, [rcx - 1]",
        "jrcxz 7f",
        "jmp 6b",
        "7:"; rounds = ROUNDS
}
exercise! {
    /// Rings IDLE once, without touching the flags.
    ring_idle:
        "mov dx, 0xd00",
        "out dx, eax"
}
/// One round for the general registers, the flags and the red zone; each depends on others and on the round before.
macro_rules! round {
    () => {
        concat!(
            "imul rax, rbx\n",
            "adc rdx, rax\n",
            "rol rsi, 7\n",
            "xor rdi, rsi\n",
            "add rbp, rdi\n",
            "adc r8, rbp\n",
            "sub r9, r8\n",
            "sbb r10, r9\n",
            "xor r11, [rsp - 128]\n",
            "add r12, r11\n",
            "lea r13, [r13 + r12*2]\n",
            "ror r14, 13\n",
            "adc r15, r14\n",
            "mov [rsp - 128], r15\n",
            "add [rsp - 8], r10\n",
            "lea rbx, [rbx + rdx*4 + 1]\n",
            "fadd st(3), st\n",
            "fxch st(1)\n",
            "fadd st(2), st\n",
            "fxch st(1)\n",
        )
    };
}

/// Fills some of the x87 registers above the one that was loaded.
macro_rules! fill_x87 {
    () => {
        "fld1\n fldl2e\n fldpi\n"
    };
}

/// The sum of them, in the register that is stored.
macro_rules! gather_x87 {
    () => {
        "faddp st(1), st\n faddp st(1), st\n faddp st(1), st\n"
    };
}

exercise! {
    /// Goes round [`ROUNDS`] times, each time making every kind of register that there always is depend on others.
    compute:
        fill_x87!(),
        "mov rcx, [rip + {rounds}]",
        "6:",
        round!(),
        sixteen!(),
        "paddq xmm\\i, xmm0",
        "pxor xmm0, xmm\\i",
        ".endr",
        "dec rcx",
        "jnz 6b",
        gather_x87!(); rounds = ROUNDS
}
exercise! {
    /// The same with the whole of the AVX registers.
    compute_avx:
        fill_x87!(),
        "mov rcx, [rip + {rounds}]",
        "6:",
        round!(),
        sixteen!(),
        "vxorpd ymm\\i, ymm\\i, ymm0",
        "vshufpd ymm0, ymm0, ymm\\i, 5",
        ".endr",
        "vperm2f128 ymm0, ymm0, ymm0, 1",
        "vpaddq xmm1, xmm1, xmm0",
        "vinsertf128 ymm0, ymm0, xmm1, 1",
        "dec rcx",
        "jnz 6b",
        gather_x87!(); rounds = ROUNDS
}
