# SPDX-License-Identifier: Apache-2.0
if(DSM_FUZZ)
  add_executable(fuzz_wire ${CMAKE_CURRENT_LIST_DIR}/fuzz_wire.c)
  target_link_options(fuzz_wire PRIVATE -fsanitize=fuzzer)
  target_link_libraries(fuzz_wire PRIVATE rpc)
  add_dependencies(fuzz fuzz_wire)
  add_test(NAME fuzz.wire COMMAND fuzz_wire -seed=1 -max_total_time=10 -max_len=512)
  set_tests_properties(fuzz.wire PROPERTIES TIMEOUT 300)
endif()
