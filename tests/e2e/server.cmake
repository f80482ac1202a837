# SPDX-License-Identifier: Apache-2.0
# A running dsmd, spoken to over direct lanes and over gRPC lanes.
if(TARGET dsmd AND TARGET rpc_grpc)
  add_executable(e2e_server ${CMAKE_CURRENT_LIST_DIR}/server.c
                 ${CMAKE_CURRENT_LIST_DIR}/server_rig.c)
  target_link_libraries(e2e_server PRIVATE rpc_grpc rpc rpc_control PkgConfig::CMOCKA)
  foreach(lane sock grpc)
    add_test(NAME e2e.server.${lane} COMMAND e2e_server $<TARGET_FILE:dsmd> ${lane})
    set_tests_properties(e2e.server.${lane} PROPERTIES TIMEOUT 120)
  endforeach()
endif()
