# SPDX-License-Identifier: Apache-2.0
# The Noise room: handshake, pattern rows, cipher states.
foreach(part noise noise_rows noise_cipher)
  add_unit_test(${part} SOURCES ${CMAKE_CURRENT_LIST_DIR}/${part}.c LIBRARIES rpc Threads::Threads)
endforeach()
