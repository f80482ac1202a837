/* SPDX-License-Identifier: Apache-2.0
 *
 * From stack to stack on aarch64: x19 to x30, d8 to d15 and the control word of the floating-point unit. The stack protector's
 * word is one for the process here, and cannot be written: task code is compiled with -fno-stack-protector, and, since a signed
 * return address is another process' secret, with -mbranch-protection=none or bti.
 *
 * As on x86-64 no address of a library stays on the task's stack.
 */
#if defined(__aarch64__)
#define HOST_SP 0
#define TASK_SP 8
#define FRAME 176

        .text

        .macro save_registers
        stp x29, x30, [sp, #-FRAME]!
        stp x19, x20, [sp, #16]
        stp x21, x22, [sp, #32]
        stp x23, x24, [sp, #48]
        stp x25, x26, [sp, #64]
        stp x27, x28, [sp, #80]
        stp d8, d9, [sp, #96]
        stp d10, d11, [sp, #112]
        stp d12, d13, [sp, #128]
        stp d14, d15, [sp, #144]
        mrs x9, fpcr
        str x9, [sp, #160]
        .endm

        .macro restore_registers
        ldr x9, [sp, #160]
        msr fpcr, x9
        ldp x19, x20, [sp, #16]
        ldp x21, x22, [sp, #32]
        ldp x23, x24, [sp, #48]
        ldp x25, x26, [sp, #64]
        ldp x27, x28, [sp, #80]
        ldp d8, d9, [sp, #96]
        ldp d10, d11, [sp, #112]
        ldp d12, d13, [sp, #128]
        ldp d14, d15, [sp, #144]
        ldp x29, x30, [sp], #FRAME
        .endm

        .macro procedure name, seen=hidden
        .globl \name
        .ifc \seen, hidden
        .hidden \name
        .endif
        .type \name, %function
        .p2align 4
\name:
        hint #34                /* bti c */
        .endm

        /* task_switch_begin(x0: s, x1: top, x2: function, x3: heap, x4: heap_bytes) */
        procedure task_switch_begin
        save_registers
        mov x9, sp
        str x9, [x0, #HOST_SP]
        mov sp, x1
        mov x16, x2
        mov x0, x3
        mov x1, x4
        mov x29, xzr
        mov x30, xzr            /* nowhere to return to */
        br x16
        .size task_switch_begin, . - task_switch_begin

        /* task_switch_enter(x0: s) */
        procedure task_switch_enter
        save_registers
        mov x9, sp
        str x9, [x0, #HOST_SP]
        ldr x9, [x0, #TASK_SP]
        mov sp, x9
        restore_registers
        ret
        .size task_switch_enter, . - task_switch_enter

        procedure dsm_task_yield, seen
        mrs x9, tpidr_el0
        adrp x10, :gottprel:task_running
        ldr x10, [x10, :gottprel_lo12:task_running]
        ldr x0, [x9, x10]
        cbnz x0, task_switch_leave
        ret
        .size dsm_task_yield, . - dsm_task_yield

        /* task_switch_leave(x0: s) */
        procedure task_switch_leave
        save_registers
        mov x9, sp
        str x9, [x0, #TASK_SP]
        ldr x9, [x0, #HOST_SP]
        mov sp, x9
        restore_registers
        ret
        .size task_switch_leave, . - task_switch_leave
#endif
        .section .note.GNU-stack, "", %progbits
