# SPDX-License-Identifier: Apache-2.0
# The seeded simulator: client and server cores under a virtual clock. The linker puts the simulator's threads, clock and
# locks in the place of the system's.
if(TARGET dsm_core AND TARGET server_core AND NOT DSM_SANITIZE STREQUAL "thread") # its fibers are no threads
  set(part ${CMAKE_CURRENT_LIST_DIR})
  add_executable(simulator ${part}/simulator.c ${part}/virtual_time.c ${part}/stack_switch.c ${part}/network.c ${part}/network_client.c ${part}/capture.c ${part}/server.c
    ${part}/oracle.c ${part}/rival.c ${part}/program.c ${part}/weather.c ${part}/exactly_once.c
    ${CMAKE_SOURCE_DIR}/tests/programs/checked_page.c)
  target_link_libraries(simulator PRIVATE dsm_core server_core)
  foreach(symbol sync_wait sync_wake sync_now sync_call clock_gettime pthread_create pthread_join pthread_mutex_lock
          malloc calloc noise_random lane_grpc_library_get lane_grpc_library_put)
    target_link_options(simulator PRIVATE -Wl,--wrap=${symbol})
  endforeach()
  set(seeds 1000)
  set(operations 100000)
  set(rounds 1000)
  if(DSM_SANITIZE) # what it finds shows within a few
    set(seeds 60)
    set(operations 3000)
    set(rounds 50)
  endif()
  add_test(NAME sim.weather COMMAND simulator --seeds ${seeds})
  add_test(NAME sim.exactly-once COMMAND simulator --exactly-once ${operations})
  add_test(NAME sim.late-writers COMMAND simulator --late-writers ${rounds})
  set_tests_properties(sim.weather sim.exactly-once sim.late-writers PROPERTIES TIMEOUT 900)
  if(DSM_LONG_TESTS)
    add_test(NAME long.sim.weather COMMAND simulator --seeds 20000 --first 100000)
    set_tests_properties(long.sim.weather PROPERTIES TIMEOUT 7200 LABELS long)
  endif()
endif()
