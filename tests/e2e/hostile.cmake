# SPDX-License-Identifier: Apache-2.0
# What strangers and hostile clients try on a running dsmd: see hostile_server.c.
if(TARGET dsmd AND TARGET rpc_grpc)
  add_executable(e2e_hostile ${CMAKE_CURRENT_LIST_DIR}/hostile_server.c
                 ${CMAKE_CURRENT_LIST_DIR}/server_rig.c)
  target_link_libraries(e2e_hostile PRIVATE rpc_grpc rpc rpc_control PkgConfig::CMOCKA)
  add_test(NAME e2e.hostile COMMAND e2e_hostile $<TARGET_FILE:dsmd>)
  set_tests_properties(e2e.hostile PROPERTIES TIMEOUT 120)
endif()
# hostile_stress: clients come and are killed, dsmd is stopped and killed; nothing may be left of them.
if(TARGET dsmd AND TARGET dsmctl) # pagecheck is made by a folder that comes later
  function(add_hostile_stress name lanes labels) # add_hostile_stress(name LANES LABELS CLIENTS SECONDS RESTARTS)
    add_test(NAME e2e.hostile_stress.${name} COMMAND ${CMAKE_CURRENT_FUNCTION_LIST_DIR}/hostile_stress.sh ${ARGN})
    set_tests_properties(e2e.hostile_stress.${name} PROPERTIES
      LABELS "${labels};plain-only" TIMEOUT 300 SKIP_RETURN_CODE 77
      ENVIRONMENT "DSM_BUILD=${CMAKE_BINARY_DIR};DSM_FAULT_LANES=${lanes}")
  endfunction()
  add_hostile_stress(sock sock e2e 8 5 1)
  if(DSM_LONG_TESTS)
    add_hostile_stress(sock_long sock long 8 30 4)
    add_hostile_stress(grpc_long grpc long 8 30 4)
  endif()
endif()
# hostile_resume: a write that is acknowledged before the answer to the resume is here.
if(TARGET dsmd AND TARGET dsm_core)
  add_executable(e2e_hostile_resume ${CMAKE_CURRENT_LIST_DIR}/hostile_resume.c
                 ${CMAKE_CURRENT_LIST_DIR}/server_rig.c)
  target_link_libraries(e2e_hostile_resume PRIVATE dsm_core rpc_grpc rpc rpc_control
                        PkgConfig::CMOCKA)
  target_link_options(e2e_hostile_resume PRIVATE -Wl,--wrap=control_resume)
  add_test(NAME e2e.hostile_resume COMMAND e2e_hostile_resume $<TARGET_FILE:dsmd>)
  set_tests_properties(e2e.hostile_resume PROPERTIES TIMEOUT 120)
endif()
