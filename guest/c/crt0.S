/* The entry of a guest in C: calls `int guest_main(const struct denali_boot *)` and terminates with
 * what it returns. */

        .intel_syntax noprefix
        .text
        .globl  _start
        .type   _start, @function
_start:
        xor     ebp, ebp        /* ends backtraces */
        call    guest_main      /* RDI is the boot information already */
        mov     edx, 0x0d01     /* TERMINATE */
        out     dx, eax
        ud2
        .size   _start, . - _start

        .section .note.GNU-stack, "", @progbits
