# SPDX-License-Identifier: Apache-2.0
# libFuzzer targets for handshake messages, records and key files; with clang, and only when they are asked for:
# -DDSM_FUZZ=ON -DCMAKE_C_COMPILER=clang -DDSM_SANITIZE=address. As tests they run for a few seconds from a seed.
option(DSM_FUZZ "build the libFuzzer targets (needs clang)" OFF)
if(DSM_FUZZ)
  if(NOT CMAKE_C_COMPILER_ID MATCHES "Clang")
    message(FATAL_ERROR "DSM_FUZZ needs clang: configure with -DCMAKE_C_COMPILER=clang.")
  endif()
  foreach(part noise keyfile)
    add_executable(fuzz_${part} ${CMAKE_CURRENT_LIST_DIR}/fuzz_${part}.c)
    target_compile_options(fuzz_${part} PRIVATE -fsanitize=fuzzer)
    target_link_options(fuzz_${part} PRIVATE -fsanitize=fuzzer)
    target_link_libraries(fuzz_${part} PRIVATE rpc)
    target_compile_options(rpc PRIVATE -fsanitize=fuzzer-no-link)
    add_dependencies(fuzz fuzz_${part})
    add_test(NAME fuzz.${part} COMMAND fuzz_${part} -seed=1 -runs=20000 -max_len=4096)
    set_tests_properties(fuzz.${part} PROPERTIES TIMEOUT 300)
  endforeach()
endif()
