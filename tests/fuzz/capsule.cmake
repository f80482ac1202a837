# SPDX-License-Identifier: Apache-2.0
# The capsule's decoder, from capsules that were really made.
if(DSM_FUZZ AND TARGET dsm_core)
  add_executable(fuzz_capsule ${CMAKE_CURRENT_LIST_DIR}/fuzz_capsule.c ${CMAKE_SOURCE_DIR}/tests/unit/capsule_rig.c
                 ${CMAKE_SOURCE_DIR}/libdsm/migrate/capsule.c ${CMAKE_SOURCE_DIR}/libdsm/migrate/capsule_check.c
                 ${CMAKE_SOURCE_DIR}/libdsm/migrate/capsule_seal.c)
  target_compile_options(fuzz_capsule PRIVATE -fsanitize=fuzzer)
  target_link_options(fuzz_capsule PRIVATE -fsanitize=fuzzer)
  target_link_libraries(fuzz_capsule PRIVATE rpc)
  add_dependencies(fuzz fuzz_capsule capsule_make)
  add_test(NAME fuzz.capsule COMMAND sh -c "$<TARGET_FILE:capsule_make> --seeds capsule-seeds && exec \
$<TARGET_FILE:fuzz_capsule> -seed=1 -max_total_time=10 -max_len=4096 capsule-seeds")
  set_tests_properties(fuzz.capsule PROPERTIES TIMEOUT 300)
endif()
