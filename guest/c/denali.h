/* The Denali guest contract, version 1, for programs in C: docs/abi.md says what everything means.
 *
 * Structures, constants and doorbells; no library. Freestanding C11, gcc or clang, x86-64. */
#ifndef DENALI_H
#define DENALI_H

#include <stddef.h>
#include <stdint.h>

#define DENALI_ABI_VERSION 1

/* The address map. */
#define DENALI_PAGE_SIZE 4096
#define DENALI_VIRTUAL_REGISTERS 0x100000
#define DENALI_BOOT_INFORMATION 0x101000
#define DENALI_ARGUMENTS 0x102000
#define DENALI_RAM_FREE_START 0x103000
#define DENALI_IMAGE_START 0x200000
#define DENALI_STACK_TOP_DEFAULT 0x200000
#define DENALI_STACK_SIZE_DEFAULT 262144
#define DENALI_RED_ZONE 128

/* Doorbells. */
#define DENALI_IDLE 0x0d00
#define DENALI_TERMINATE 0x0d01
#define DENALI_CONSOLE 0x0d02
#define DENALI_FLUSH 0x0d03
#define DENALI_NOTIFY 0x0d10
#define DENALI_DEVICE_REGISTERS 0x1000
#define DENALI_DEVICE_STRIDE 0x200
#define DENALI_DEVICES_MAX 62

/* Bits of `pending` above the devices'. */
#define DENALI_PENDING_STOP 62
#define DENALI_PENDING_TIMER 63

/* Limits and special values. */
#define DENALI_CONSOLE_MAX 65536
#define DENALI_ARGUMENTS_MAX 4096
#define DENALI_NO_DEADLINE UINT64_MAX
#define DENALI_UPCALL_VECTOR 256
#define DENALI_WANTED_MAX 8
#define DENALI_NOTE_TYPE 1

/* Kinds of devices: the virtio device types. */
#define DENALI_KIND_NET 1
#define DENALI_KIND_BLOCK 2
#define DENALI_KIND_CONSOLE 3
#define DENALI_KIND_ENTROPY 4

/* The virtual registers, at DENALI_VIRTUAL_REGISTERS. `pending` is changed by atomic operations only. */
struct denali_registers {
    uint32_t abi_version;
    uint32_t cpu_khz;
    uint64_t memory_size;
    uint64_t generation;
    uint8_t entropy[32];
    uint64_t reserved_constants;
    uint32_t seq;
    uint32_t shift;
    uint64_t tsc_base;
    uint64_t mult;
    uint64_t monotonic_base_ns;
    uint64_t realtime_offset_ns;
    uint64_t reserved_clock[3];
    uint64_t pending;
    uint64_t reserved_pending[7];
    uint64_t idle_deadline_ns;
    uint64_t console_addr;
    uint64_t console_len;
    uint64_t upcall_entry;
    uint64_t upcall_enabled;
    uint64_t fault_entry;
    uint64_t run_deadline_ns;
    uint64_t reserved_orders;
    uint64_t exits;
    uint64_t interrupts_raised;
    uint64_t interrupts_delivered;
    uint64_t batches;
    uint64_t reserved_counters[4];
};

/* One attached device. Addresses are in network order; 0 = none. */
struct denali_device {
    uint32_t kind;
    uint32_t number;
    char name[24];
    uint8_t ipv4[4];
    uint8_t gateway[4];
    uint8_t name_server[4];
    uint8_t prefix_len;
    uint8_t mac[6];
    uint8_t reserved[13];
};

/* The boot information; RDI holds its address at the entry. */
struct denali_boot {
    char magic[8];
    uint32_t abi_version;
    uint32_t device_count;
    uint64_t memory_size;
    uint64_t image_start;
    uint64_t image_end;
    uint64_t stack_bottom;
    uint64_t stack_top;
    uint64_t arguments;
    uint64_t arguments_len;
    uint64_t reserved[7];
    struct denali_device devices[DENALI_DEVICES_MAX];
};

/* What `fault_entry` and `upcall_entry` find at RDI. */
struct denali_frame {
    uint64_t vector;
    uint64_t error_code;
    uint64_t address;
    uint64_t resume_rsp;
    uint64_t gpr[16]; /* RAX, RBX, RCX, RDX, RSI, RDI, RBP, RSP, R8 to R15 */
    uint64_t rip;
    uint64_t rflags;
};

/* A device without which the guest does not start; an empty name = any. */
struct denali_wanted {
    uint32_t kind;
    char name[28];
};

/* The ELF note; see DENALI_NOTE. */
struct denali_note {
    uint32_t name_size;
    uint32_t description_size;
    uint32_t type;
    char name[8];
    uint32_t abi_version;
    uint32_t device_count;
    uint64_t memory_min;
    uint64_t stack_size;
    uint64_t stack_top;
    uint64_t reserved[4];
    struct denali_wanted devices[DENALI_WANTED_MAX];
} __attribute__((packed, aligned(4)));

/* Puts the note into the image, once: DENALI_NOTE(.memory_min = 8 << 20); or DENALI_NOTE(); */
#define DENALI_NOTE(...)                                                                           \
    __attribute__((used, section(".note.denali"))) static const struct denali_note denali_note = { \
        .name_size = 7,                                                                            \
        .description_size = sizeof(struct denali_note) - offsetof(struct denali_note, abi_version), \
        .type = DENALI_NOTE_TYPE,                                                                  \
        .name = "Denali",                                                                          \
        .abi_version = DENALI_ABI_VERSION,                                                         \
        __VA_ARGS__                                                                                \
    }

_Static_assert(offsetof(struct denali_registers, seq) == 0x40, "clock");
_Static_assert(offsetof(struct denali_registers, pending) == 0x80, "pending");
_Static_assert(offsetof(struct denali_registers, idle_deadline_ns) == 0xc0, "orders");
_Static_assert(offsetof(struct denali_registers, fault_entry) == 0xe8, "fault_entry");
_Static_assert(offsetof(struct denali_registers, run_deadline_ns) == 0xf0, "run_deadline_ns");
_Static_assert(offsetof(struct denali_registers, exits) == 0x100, "counters");
_Static_assert(sizeof(struct denali_registers) == 0x140, "virtual registers");
_Static_assert(sizeof(struct denali_device) == 64, "device entry");
_Static_assert(offsetof(struct denali_boot, devices) == 128, "device table");
_Static_assert(sizeof(struct denali_boot) == 4096, "boot information");
_Static_assert(offsetof(struct denali_frame, gpr) == 0x20, "general registers");
_Static_assert(sizeof(struct denali_frame) == 176, "frame");
_Static_assert(sizeof(struct denali_wanted) == 32, "wanted device");
_Static_assert(offsetof(struct denali_note, abi_version) == 20, "note header");
_Static_assert(sizeof(struct denali_note) == 340, "note");

/* The virtual registers. */
static inline volatile struct denali_registers *denali_registers(void)
{
    return (volatile struct denali_registers *)(uintptr_t)DENALI_VIRTUAL_REGISTERS;
}

/* Writes 32 bits to a port; what was written to memory before is there for the monitor to see. */
static inline void denali_out(uint16_t port, uint32_t value)
{
    __asm__ volatile("outl %0, %1" : : "a"(value), "d"(port) : "memory");
}

/* Reads 32 bits from a port of a device's register file. */
static inline uint32_t denali_in(uint16_t port)
{
    uint32_t value;
    __asm__ volatile("inl %1, %0" : "=a"(value) : "d"(port) : "memory");
    return value;
}

/* Ends the guest; the low 8 bits are the exit status. */
static inline _Noreturn void denali_terminate(uint32_t status)
{
    denali_out(DENALI_TERMINATE, status);
    __builtin_unreachable();
}

/* Writes bytes to the console, all of them. */
static inline void denali_console(const void *bytes, size_t length)
{
    volatile struct denali_registers *registers = denali_registers();
    uint64_t address = (uint64_t)(uintptr_t)bytes;
    while (length > 0) {
        size_t now = length < DENALI_CONSOLE_MAX ? length : DENALI_CONSOLE_MAX;
        registers->console_addr = address;
        registers->console_len = now;
        denali_out(DENALI_CONSOLE, 0);
        address += now;
        length -= now;
    }
}

/* Processes all queues, then sleeps until something is pending or the deadline (monotonic, in ns, or
 * DENALI_NO_DEADLINE) passes. */
static inline void denali_idle(uint64_t deadline_ns)
{
    denali_registers()->idle_deadline_ns = deadline_ns;
    denali_out(DENALI_IDLE, 0);
}

/* Takes all pending interrupts. */
static inline uint64_t denali_take_pending(void)
{
    return __atomic_exchange_n(&denali_registers()->pending, 0, __ATOMIC_ACQUIRE);
}

__extension__ typedef unsigned __int128 denali_wide;

/* Monotonic time in ns; with `realtime`, nanoseconds since 1970-01-01 UTC. */
static inline uint64_t denali_clock_ns(int realtime)
{
    volatile struct denali_registers *registers = denali_registers();
    uint32_t seq, shift;
    uint64_t base, mult, ns, ticks;
    do {
        while ((seq = __atomic_load_n(&registers->seq, __ATOMIC_ACQUIRE)) & 1)
            __builtin_ia32_pause();
        shift = registers->shift;
        base = registers->tsc_base;
        mult = registers->mult;
        ns = registers->monotonic_base_ns + (realtime ? registers->realtime_offset_ns : 0);
        ticks = __builtin_ia32_rdtsc();
        __atomic_thread_fence(__ATOMIC_ACQUIRE);
    } while (__atomic_load_n(&registers->seq, __ATOMIC_RELAXED) != seq);
    ticks = ticks > base ? ticks - base : 0;
    return ns + (uint64_t)(((denali_wide)ticks * mult) >> (shift & 63));
}

/* Monotonic time in ns. */
static inline uint64_t denali_monotonic_ns(void)
{
    return denali_clock_ns(0);
}

/* Nanoseconds since 1970-01-01 UTC. */
static inline uint64_t denali_realtime_ns(void)
{
    return denali_clock_ns(1);
}

#endif
