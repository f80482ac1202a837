# SPDX-License-Identifier: Apache-2.0
if(TARGET dsm_core)
  file(GLOB dsmstat_sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_LIST_DIR}/dsmstat*.c)
  add_executable(dsmstat ${dsmstat_sources})
  target_compile_definitions(dsmstat PRIVATE DSM_VERSION="${PROJECT_VERSION}"
    DSM_TRIPLET="${CMAKE_LIBRARY_ARCHITECTURE}")
  target_link_libraries(dsmstat PRIVATE tool dsm_bpf m)
endif()
