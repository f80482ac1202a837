# SPDX-License-Identifier: Apache-2.0
# Capsules: the room, and what shows them.
if(TARGET dsm_core AND TARGET dsmctl)
  foreach(part capsule capsule_contents)
    add_unit_test(${part} SOURCES ${CMAKE_CURRENT_LIST_DIR}/${part}.c ${CMAKE_CURRENT_LIST_DIR}/capsule_rig.c
                  LIBRARIES dsm_core)
  endforeach()
  add_executable(capsule_make ${CMAKE_CURRENT_LIST_DIR}/capsule_make.c ${CMAKE_CURRENT_LIST_DIR}/capsule_rig.c)
  target_link_libraries(capsule_make PRIVATE dsm_core)
  add_test(NAME unit.capsule_show COMMAND bash ${CMAKE_CURRENT_LIST_DIR}/capsule_show.sh $<TARGET_FILE:dsmctl>
           $<TARGET_FILE:capsule_make>)
  set_tests_properties(unit.capsule_show PROPERTIES TIMEOUT 120)
endif()
