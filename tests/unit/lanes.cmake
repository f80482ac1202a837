# SPDX-License-Identifier: Apache-2.0
add_unit_test(wire SOURCES ${CMAKE_CURRENT_LIST_DIR}/wire.c LIBRARIES rpc)
add_unit_test(spin SOURCES ${CMAKE_CURRENT_LIST_DIR}/spin.c LIBRARIES rpc)
add_unit_test(wire_check SOURCES ${CMAKE_CURRENT_LIST_DIR}/wire_check.c LIBRARIES rpc)
add_unit_test(handshake SOURCES ${CMAKE_CURRENT_LIST_DIR}/handshake.c
              ${CMAKE_CURRENT_LIST_DIR}/handshake_rig.c LIBRARIES rpc Threads::Threads)
add_unit_test(lane_loop SOURCES ${CMAKE_CURRENT_LIST_DIR}/lane_loop.c
              ${CMAKE_CURRENT_LIST_DIR}/lane_exercise.c LIBRARIES rpc)
add_unit_test(lane_sock SOURCES ${CMAKE_CURRENT_LIST_DIR}/lane_sock.c
              ${CMAKE_CURRENT_LIST_DIR}/lane_sock_rig.c
              ${CMAKE_CURRENT_LIST_DIR}/lane_exercise.c LIBRARIES rpc Threads::Threads)
target_link_options(unit_lane_sock PRIVATE
                    -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=free)
if(TARGET rpc_server AND TARGET rpc_grpc)
  add_unit_test(lane_grpc SOURCES ${CMAKE_CURRENT_LIST_DIR}/lane_grpc.c
                ${CMAKE_CURRENT_LIST_DIR}/lane_exercise.c LIBRARIES rpc_server rpc_grpc rpc
                Threads::Threads)
  # gRPC is not instrumented: what it does inside is not judged.
  set_tests_properties(unit.lane_grpc PROPERTIES ENVIRONMENT
                       "TSAN_OPTIONS=ignore_noninstrumented_modules=1")
endif()
# Thousands of connections each, one for every bit and every byte: slow where others want the cores.
set_tests_properties(unit.handshake unit.lane_sock PROPERTIES TIMEOUT 600)
