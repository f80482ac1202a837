# SPDX-License-Identifier: Apache-2.0
add_unit_test(wire SOURCES ${CMAKE_CURRENT_LIST_DIR}/wire.c LIBRARIES rpc)
add_unit_test(handshake SOURCES ${CMAKE_CURRENT_LIST_DIR}/handshake.c LIBRARIES rpc
              Threads::Threads)
add_unit_test(lane_loop SOURCES ${CMAKE_CURRENT_LIST_DIR}/lane_loop.c
              ${CMAKE_CURRENT_LIST_DIR}/lane_exercise.c LIBRARIES rpc)
add_unit_test(lane_sock SOURCES ${CMAKE_CURRENT_LIST_DIR}/lane_sock.c
              ${CMAKE_CURRENT_LIST_DIR}/lane_exercise.c LIBRARIES rpc Threads::Threads)
target_link_options(unit_lane_sock PRIVATE
                    -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=free)
