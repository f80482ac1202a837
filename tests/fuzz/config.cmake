# SPDX-License-Identifier: Apache-2.0
if(DSM_FUZZ AND TARGET server_config AND TARGET dsm_core)
  add_executable(fuzz_config ${CMAKE_CURRENT_LIST_DIR}/fuzz_config.c)
  target_link_options(fuzz_config PRIVATE -fsanitize=fuzzer)
  target_link_libraries(fuzz_config PRIVATE dsm_core server_config)
  add_dependencies(fuzz fuzz_config)
  add_test(NAME fuzz.config COMMAND fuzz_config -seed=1 -max_total_time=10 -max_len=512)
  set_tests_properties(fuzz.config PROPERTIES TIMEOUT 300)
endif()
