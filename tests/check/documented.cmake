# SPDX-License-Identifier: Apache-2.0
# The library's interface and settings against its manual pages.
if(TARGET dsm AND DSM_SANITIZE STREQUAL "" AND NOT DSM_FUZZ)
  add_check(api_documented ${CMAKE_SOURCE_DIR} ${CMAKE_BINARY_DIR})
  add_check(api_documented_selftest ${CMAKE_SOURCE_DIR} ${CMAKE_BINARY_DIR})
  if(TARGET dsmd)
    add_check(probes ${CMAKE_SOURCE_DIR} ${CMAKE_BINARY_DIR})
    add_check(probes_selftest ${CMAKE_SOURCE_DIR} ${CMAKE_BINARY_DIR})
  endif()
endif()
