# SPDX-License-Identifier: Apache-2.0
# What strangers and hostile clients try on a running dsmd: see hostile_server.c.
if(TARGET dsmd AND TARGET rpc_grpc)
  add_executable(e2e_hostile ${CMAKE_CURRENT_LIST_DIR}/hostile_server.c
                 ${CMAKE_CURRENT_LIST_DIR}/server_rig.c)
  target_link_libraries(e2e_hostile PRIVATE rpc_grpc rpc rpc_control PkgConfig::CMOCKA)
  add_test(NAME e2e.hostile COMMAND e2e_hostile $<TARGET_FILE:dsmd>)
  set_tests_properties(e2e.hostile PROPERTIES TIMEOUT 120)
endif()
