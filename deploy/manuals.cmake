# SPDX-License-Identifier: Apache-2.0
#
# Manual pages: NAME.SECTION.scd, which lies beside what it describes, becomes man/NAME.SECTION of the build tree. Without
# scdoc there are none. A sanitized build would make the same pages slowly.
find_program(SCDOC scdoc)
mark_as_advanced(SCDOC)
if(NOT SCDOC)
  message(STATUS "There is no scdoc: manual pages are not made.")
elseif(TARGET dsmctl AND TARGET dsm_exporter AND DSM_SANITIZE STREQUAL "" AND NOT DSM_FUZZ)
  file(GLOB dsm_pages CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/libdsm/man/*.scd ${CMAKE_SOURCE_DIR}/server/*.scd
    ${CMAKE_SOURCE_DIR}/tools/*.scd)
  set(dsm_manuals "")
  foreach(page ${dsm_pages})
    cmake_path(GET page STEM LAST_ONLY name)
    set(manual ${CMAKE_BINARY_DIR}/man/${name})
    add_custom_command(OUTPUT ${manual} VERBATIM
      COMMAND ${CMAKE_SOURCE_DIR}/deploy/manual-page ${page} $<TARGET_FILE_DIR:dsmctl> ${PROJECT_VERSION} ${manual}
      DEPENDS ${page} ${CMAKE_SOURCE_DIR}/deploy/manual-page ${CMAKE_SOURCE_DIR}/libdsm/include/dsm/counters.def
        ${CMAKE_SOURCE_DIR}/libdsm/page/page_states.def ${CMAKE_SOURCE_DIR}/server/metrics.def
        ${CMAKE_SOURCE_DIR}/libdsm/stat/probes.def ${CMAKE_SOURCE_DIR}/libdsm/stat/fault_parts.h
        ${CMAKE_SOURCE_DIR}/server/probes.def dsmctl dsm_exporter)
    list(APPEND dsm_manuals ${manual})
  endforeach()
  add_custom_target(manuals ALL DEPENDS ${dsm_manuals})
endif()
