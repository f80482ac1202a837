# SPDX-License-Identifier: Apache-2.0
add_unit_test(wire SOURCES ${CMAKE_CURRENT_LIST_DIR}/wire.c LIBRARIES rpc)
add_unit_test(handshake SOURCES ${CMAKE_CURRENT_LIST_DIR}/handshake.c LIBRARIES rpc
              Threads::Threads)
