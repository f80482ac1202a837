# SPDX-License-Identifier: Apache-2.0
# The server's fronts: one suite for both kinds of lane, and one for each kind by hand-made bytes.
if(TARGET rpc_server AND TARGET rpc_grpc)
  set(rig ${CMAKE_CURRENT_LIST_DIR}/fronts_rig.c)
  foreach(part fronts fronts_sock fronts_grpc fronts_room)
    add_unit_test(${part} SOURCES ${CMAKE_CURRENT_LIST_DIR}/${part}.c ${rig}
                  LIBRARIES rpc_server rpc_grpc rpc)
    set_tests_properties(unit.${part} PROPERTIES
      ENVIRONMENT "TSAN_OPTIONS=ignore_noninstrumented_modules=1")
  endforeach()
  foreach(part fronts_grpc fronts_room)
    target_sources(unit_${part} PRIVATE ${CMAKE_CURRENT_LIST_DIR}/fronts_raw.c)
  endforeach()
  add_test(NAME unit.fronts.grpc COMMAND unit_fronts grpc)
  set_tests_properties(unit.fronts.grpc PROPERTIES TIMEOUT 400
    ENVIRONMENT "TSAN_OPTIONS=ignore_noninstrumented_modules=1")
endif()
