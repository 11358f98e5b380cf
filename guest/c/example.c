/* A whole guest in C: greets, shows its arguments and devices, sleeps a tenth of a second by
 * idle-with-timeout, and exits with 0, or with 1 if it slept too short or was asked to stop.
 *
 * Build it, in this folder:
 *
 *     gcc -std=c11 -O2 -ffreestanding -fno-stack-protector -fno-omit-frame-pointer -fno-pic -fcf-protection=none \
 *         -nostdlib -static -no-pie -Wl,--build-id=none -Wl,-z,max-page-size=4096 -Wl,-T,denali.ld \
 *         -o example crt0.S example.c
 *
 * -ffreestanding leaves four functions that the compiler may call: memcpy, memmove, memset, memcmp.
 * A program that copies structures or clears arrays defines them. */
#include "denali.h"

DENALI_NOTE(.memory_min = 4 << 20);

#define SLEEP_NS 100000000ULL

static void print(const char *text)
{
    size_t length = 0;
    while (text[length] != 0)
        length++;
    denali_console(text, length);
}

static void print_number(uint64_t value)
{
    char digits[20];
    size_t at = sizeof digits;
    do {
        digits[--at] = (char)('0' + value % 10);
        value /= 10;
    } while (value != 0);
    denali_console(digits + at, sizeof digits - at);
}

static void describe(const struct denali_boot *boot)
{
    print("memory: ");
    print_number(boot->memory_size >> 20);
    print(" MiB\narguments: \"");
    denali_console((const void *)(uintptr_t)boot->arguments, boot->arguments_len);
    print("\"\n");
    for (uint32_t i = 0; i < boot->device_count; i++) {
        const struct denali_device *device = &boot->devices[i];
        print("device ");
        print_number(device->number);
        print(": kind ");
        print_number(device->kind);
        print("\n");
    }
}

/* Sleeps until `deadline`; 0 if the guest was asked to stop before. */
static int sleep_until(uint64_t deadline)
{
    while (denali_monotonic_ns() < deadline) {
        if (denali_take_pending() & (1ULL << DENALI_PENDING_STOP))
            return 0;
        denali_idle(deadline);
    }
    return 1;
}

int guest_main(const struct denali_boot *boot)
{
    print("hello from C\n");
    describe(boot);
    uint64_t start = denali_monotonic_ns();
    int slept = sleep_until(start + SLEEP_NS);
    print("slept ");
    print_number((denali_monotonic_ns() - start) / 1000000);
    print(" ms\n");
    return slept ? 0 : 1;
}
