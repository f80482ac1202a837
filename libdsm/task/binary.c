// SPDX-License-Identifier: Apache-2.0
//
// What the dynamic linker knows of the main program, which it names first. The build id is the note that the linker makes
// (--build-id), a sum over the contents, so it says more than a path, a size or a time.
//
// The libraries that the program loads need not be the same: none of their addresses stays on a task's stack (see
// switch_x86_64.S), and calls go through the program's own table.
#include <elf.h>
#include <link.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "libdsm/sync/futex.h"
#include "libdsm/task/binary.h"

#if defined(__x86_64__)
enum { MACHINE = EM_X86_64, ARCH_SHADOW_STACK_STATUS = 0x5005 };
#else
enum { MACHINE = EM_AARCH64 };
#endif
enum { PRCTL_SHADOW_STACK_STATUS = 74 }; // newer than the headers

static size_t aligned(size_t bytes)
{
    return (bytes + 3) & ~(size_t)3;
}

// The notes of one segment of the file, as they lie in memory.
static void read_notes(struct task_binary *binary, const uint8_t *at, size_t bytes)
{
    ElfW(Nhdr) note;
    while (bytes >= sizeof note) {
        memcpy(&note, at, sizeof note);
        size_t name = aligned(note.n_namesz);
        size_t value = aligned(note.n_descsz);
        if (name > bytes - sizeof note || value > bytes - sizeof note - name) {
            return;
        }
        const uint8_t *text = at + sizeof note;
        if (note.n_type == NT_GNU_BUILD_ID && note.n_namesz == sizeof "GNU" &&
            memcmp(text, "GNU", sizeof "GNU") == 0 && note.n_descsz <= sizeof binary->build_id) {
            memcpy(binary->build_id, text + name, note.n_descsz);
            binary->build_id_bytes = note.n_descsz;
        }
        at += sizeof note + name + value;
        bytes -= sizeof note + name + value;
    }
}

static int read_program(struct dl_phdr_info *info, size_t size, void *context)
{
    (void)size;
    struct task_binary *binary = context;
    binary->fixed = info->dlpi_addr == 0;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *part = &info->dlpi_phdr[i];
        if (part->p_type == PT_NOTE) {
            // NOLINTNEXTLINE(performance-no-int-to-ptr): the linker tells addresses as numbers
            read_notes(binary, (const uint8_t *)(info->dlpi_addr + part->p_vaddr), part->p_memsz);
        }
    }
    return 1; // the program comes first
}

void task_binary_read(struct task_binary *binary)
{
    *binary = (struct task_binary){.machine = MACHINE};
    (void)dl_iterate_phdr(read_program, binary);
}

static int find_code(struct dl_phdr_info *info, size_t size, void *context)
{
    (void)size;
    uintptr_t *code = context;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *part = &info->dlpi_phdr[i];
        uintptr_t from = info->dlpi_addr + part->p_vaddr;
        if (part->p_type == PT_LOAD && (part->p_flags & PF_X) != 0 && *code >= from &&
            *code - from < part->p_memsz) {
            *code = 0;
        }
    }
    return 1;
}

bool task_binary_has(uintptr_t code)
{
    uintptr_t looked_for = code;
    (void)dl_iterate_phdr(find_code, &looked_for);
    return code != 0 && looked_for == 0;
}

bool task_shadow_stack(void)
{
    uint64_t status = 0;
#if defined(__x86_64__)
    long result = sync_call(SYS_arch_prctl, ARCH_SHADOW_STACK_STATUS, (long)&status, 0, 0, 0, 0);
#else
    long result = sync_call(SYS_prctl, PRCTL_SHADOW_STACK_STATUS, (long)&status, 0, 0, 0, 0);
#endif
    return result == 0 && (status & 1) != 0;
}
