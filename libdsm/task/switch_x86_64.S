/* SPDX-License-Identifier: Apache-2.0
 *
 * From stack to stack on x86-64. A call saves what its caller counts on: rbx, rbp, r12 to r15, the control words of SSE and of
 * the x87, and (see switch.h) the word in thread-local storage that the stack protector compares with: each stack keeps the
 * one that its frames were made with, or the first return of a moved frame would find another process' word and end it.
 *
 * No address of this file or of another library may stay on the task's stack: they differ from process to process. A saved
 * frame ends in the return address of whoever called dsm_task_yield, which lies in the program.
 */
#if defined(__x86_64__)
#define HOST_SP 0
#define TASK_SP 8
#define HOST_GUARD 16
#define TASK_GUARD 24
#define GUARD %fs:0x28

        .text

        .macro save_registers
        pushq %rbp
        pushq %rbx
        pushq %r12
        pushq %r13
        pushq %r14
        pushq %r15
        subq $8, %rsp
        stmxcsr (%rsp)
        fnstcw 4(%rsp)
        .endm

        .macro restore_registers
        ldmxcsr (%rsp)
        fldcw 4(%rsp)
        addq $8, %rsp
        popq %r15
        popq %r14
        popq %r13
        popq %r12
        popq %rbx
        popq %rbp
        .endm

        .macro leave_host       /* rdi: s */
        save_registers
        movq %rsp, HOST_SP(%rdi)
        movq GUARD, %rax
        movq %rax, HOST_GUARD(%rdi)
        movq TASK_GUARD(%rdi), %rax
        movq %rax, GUARD
        .endm

        .macro procedure name, seen=hidden
        .globl \name
        .ifc \seen, hidden
        .hidden \name
        .endif
        .type \name, @function
        .p2align 4
\name:
        endbr64
        .endm

        /* task_switch_begin(rdi: s, rsi: top, rdx: function, rcx: heap, r8: heap_bytes) */
        procedure task_switch_begin
        leave_host
        movq %rsi, %rsp
        movq %rdx, %rax
        movq %rcx, %rdi
        movq %r8, %rsi
        xorl %ebp, %ebp
        pushq $0                /* nowhere to return to; and the stack is aligned as after a call */
        jmp *%rax
        .size task_switch_begin, . - task_switch_begin

        /* task_switch_enter(rdi: s) */
        procedure task_switch_enter
        leave_host
        movq TASK_SP(%rdi), %rsp
        restore_registers
        ret
        .size task_switch_enter, . - task_switch_enter

        procedure dsm_task_yield, seen
        movq task_running@gottpoff(%rip), %rax
        movq %fs:(%rax), %rdi
        testq %rdi, %rdi
        jnz task_switch_leave
        ret
        .size dsm_task_yield, . - dsm_task_yield

        /* task_switch_leave(rdi: s) */
        procedure task_switch_leave
        save_registers
        movq %rsp, TASK_SP(%rdi)
        movq HOST_GUARD(%rdi), %rax
        movq %rax, GUARD
        movq HOST_SP(%rdi), %rsp
        restore_registers
        ret
        .size task_switch_leave, . - task_switch_leave
#endif
        .section .note.GNU-stack, "", %progbits
