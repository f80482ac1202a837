# SPDX-License-Identifier: Apache-2.0
# What is installed and packaged: of the plain configuration, which is the one that is shipped.
if(TARGET dsm AND TARGET dsmd AND DSM_SANITIZE STREQUAL "" AND NOT DSM_FUZZ)
  set(install_folder ${CMAKE_CURRENT_LIST_DIR})
  function(add_install_test name seconds) # add_install_test(name TIMEOUT ARGUMENT...)
    add_test(NAME install.${name} COMMAND ${install_folder}/${name}.sh ${ARGN})
    set_tests_properties(install.${name} PROPERTIES LABELS "plain-only;slow" TIMEOUT ${seconds} SKIP_RETURN_CODE 77 RESOURCE_LOCK embedded
      ENVIRONMENT "DSM_BUILD=${CMAKE_BINARY_DIR}")
  endfunction()
  add_install_test(symbols 60 $<TARGET_FILE:dsm> ${CMAKE_SOURCE_DIR}/libdsm/include/dsm/dsm.h)
  set_tests_properties(install.symbols PROPERTIES LABELS plain-only)
  add_install_test(consumer 180)
  add_executable(install_keep ${install_folder}/keep.c)
  target_link_libraries(install_keep PRIVATE dsm)
  add_install_test(packages 600)
endif()
