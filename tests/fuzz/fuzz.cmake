# SPDX-License-Identifier: Apache-2.0
# libFuzzer targets, with clang and only when they are asked for:
# -DDSM_FUZZ=ON -DCMAKE_C_COMPILER=clang -DDSM_SANITIZE=address. As tests they run for DSM_FUZZ_SECONDS each, from the seeds
# in corpus/ and with a fixed random seed, one after the other beside the other tests, whose idle time they use (they are nice);
# tests/fuzz/run runs them for longer.
set(DSM_FUZZ_SECONDS 60 CACHE STRING "seconds for which the test of each fuzz target runs")
if(DSM_FUZZ AND TARGET dsm_core AND TARGET server_core)
  set(fuzz ${CMAKE_CURRENT_LIST_DIR})
  function(add_fuzz_target name most_bytes) # add_fuzz_target(name most_bytes SOURCES ... LIBRARIES ...)
    cmake_parse_arguments(target "" "" "SOURCES;LIBRARIES" ${ARGN})
    add_executable(fuzz_${name} ${fuzz}/fuzz_${name}.c ${target_SOURCES})
    target_link_options(fuzz_${name} PRIVATE -fsanitize=fuzzer)
    target_link_libraries(fuzz_${name} PRIVATE ${target_LIBRARIES})
    add_dependencies(fuzz fuzz_${name})
    add_test(NAME fuzz.${name} COMMAND ${fuzz}/run --build ${CMAKE_BINARY_DIR} --seconds ${DSM_FUZZ_SECONDS} ${name})
    math(EXPR timeout "${DSM_FUZZ_SECONDS} * 4 + 200")
    set_tests_properties(fuzz.${name} PROPERTIES TIMEOUT ${timeout} RESOURCE_LOCK fuzz)
    file(APPEND ${CMAKE_BINARY_DIR}/fuzz_targets "${name} ${most_bytes}\n")
  endfunction()
  file(WRITE ${CMAKE_BINARY_DIR}/fuzz_targets "")
  add_fuzz_target(handshake 600 LIBRARIES rpc)
  add_fuzz_target(noise 4096 LIBRARIES rpc)
  add_fuzz_target(record 70000 LIBRARIES rpc rpc_server)
  add_fuzz_target(wire 512 LIBRARIES rpc)
  add_fuzz_target(keyfile 4096 LIBRARIES rpc)
  add_fuzz_target(config 512 LIBRARIES dsm_core server_config)
  add_fuzz_target(control 2048 SOURCES ${fuzz}/fuzz_store_files.c ${CMAKE_SOURCE_DIR}/tests/unit/service_rig.c
                  LIBRARIES server_core)
  add_fuzz_target(store 512 SOURCES ${fuzz}/fuzz_store_files.c LIBRARIES server_core)
  add_fuzz_target(capsule 4096 SOURCES ${CMAKE_SOURCE_DIR}/tests/unit/capsule_rig.c LIBRARIES dsm_core)
  add_dependencies(fuzz capsule_make)
endif()
