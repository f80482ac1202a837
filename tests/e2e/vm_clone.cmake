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
