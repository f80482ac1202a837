# SPDX-License-Identifier: Apache-2.0
# What segments need to move between hosts, against a dsmd that runs: clones. The server's side of a hand-over, by its requests.
if(NOT TARGET dsm)
  return()
endif()
add_executable(hold_clone ${vm_folder}/hold_clone.c ${vm_folder}/hold_rig.c)
target_link_libraries(hold_clone PRIVATE dsm Threads::Threads)
add_vm_test(Clone.orders hold.sh hold_clone orders)
add_vm_test(Clone.larger hold.sh hold_clone larger)
add_vm_test(Clone.killed hold_killed.sh hold_clone killed
  clone.copied:kill:1 create.rename:kill:2 write.version:kill:501)
# By the library's own requests, which programs do not see.
add_executable(hold_image ${vm_folder}/hold_image.c ${vm_folder}/hold_rig.c)
target_link_libraries(hold_image PRIVATE dsm_core)
set(migrating "HOLD_GRANT=rights=create,read,write,migrate")
foreach(role hand-over back code expired)
  add_vm_test(Migrate.${role} hold.sh hold_image ${role})
  add_vm_environment(Migrate.${role} ${migrating})
endforeach()
add_vm_test(Migrate.right hold.sh hold_image right)
add_vm_test(Migrate.killed hold_killed.sh hold_image killed
  image.begin:kill:1 image.file:kill:1 image.rename:kill:1 update.begin:kill:1 update.begin:kill:3 update.record:kill:2
  update.record:kill:3 image.rename:kill:2 update.begin:kill:5 update.record:kill:5 image.begin:kill:3 image.rename:kill:3
  update.record:kill:7)
add_vm_environment(Migrate.killed ${migrating})
# What dies here is dsmd, step by step: sanitizers would find nothing that they do not find in the unit tests of the same steps.
set_tests_properties(vm.Clone.killed vm.Migrate.killed PROPERTIES LABELS "e2e;plain-only")
