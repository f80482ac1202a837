# SPDX-License-Identifier: Apache-2.0
# Random operations against a model, on a dsmd that runs.
if(NOT TARGET dsm)
  return()
endif()
set(model_folder ${CMAKE_CURRENT_LIST_DIR})
add_executable(vm_model ${model_folder}/vm_model.c ${model_folder}/model_touch.c
  ${model_folder}/model_reference.c ${model_folder}/model_calls.c
  ${model_folder}/model_overlapping.c ${model_folder}/model_exact.c ${model_folder}/watch.c)
target_link_libraries(vm_model PRIVATE dsm Threads::Threads)

function(add_model_test name) # add_model_test(name [LANES sock|grpc] [LABELS ...] [ENVIRONMENT ...] COMMAND script.sh ARGUMENT...)
  cmake_parse_arguments(vm "" "LANES" "LABELS;ENVIRONMENT;COMMAND" ${ARGN})
  if(NOT vm_LANES)
    set(vm_LANES sock)
  endif()
  list(POP_FRONT vm_COMMAND script)
  add_test(NAME vm.${name} COMMAND ${script} ${vm_COMMAND})
  set_tests_properties(vm.${name} PROPERTIES
    LABELS "e2e;${vm_LABELS}" TIMEOUT 300 SKIP_RETURN_CODE 77
    ENVIRONMENT "DSM_BUILD=${CMAKE_BINARY_DIR};DSM_FAULT_LANES=${vm_LANES};${vm_ENVIRONMENT}")
endfunction()

# model.sh FIRST-SEED LAST-SEED OPERATIONS
set(model ${model_folder}/model.sh)
if(DSM_SANITIZE STREQUAL "")
  add_model_test(Model.overlapping COMMAND ${model} 5 15 100000)
  add_model_test(Model.grpc LANES grpc COMMAND ${model} 20 21 50000)
  add_model_test(Model.exact COMMAND ${model} 1 8 3000 --exact)
  add_model_test(Model.sync COMMAND ${model} 14 14 50000 ENVIRONMENT DSM_TRAP=uffd-sync)
  add_model_test(State.concurrent COMMAND ${model} 30 32 60000 --states)
else()
  add_model_test(Model.overlapping COMMAND ${model} 12 15 12000)
  add_model_test(Model.grpc LANES grpc COMMAND ${model} 20 20 5000)
  add_model_test(Model.exact COMMAND ${model} 1 2 1000 --exact)
  add_model_test(State.concurrent COMMAND ${model} 30 30 10000 --states)
endif()

add_executable(vm_vectors ${model_folder}/vm_vectors.c ${model_folder}/watch.c
  ${hold_folder}/hold_rig.c)
target_link_libraries(vm_vectors PRIVATE dsm Threads::Threads)
set(hold ${hold_folder}/hold.sh vm_vectors)
set(hold_paused ${hold_folder}/hold_paused.sh vm_vectors)
foreach(pages 1 256) # with the larger one, runs that are not sent yet hold all the frames
  add_model_test(SwapBuffer.overlap-${pages} COMMAND ${hold} overlap
    ENVIRONMENT DSM_EXACT=on DSM_SWAP_BUFFER=${pages})
endforeach()
add_model_test(StateVectors.crowd COMMAND ${hold_paused} crowd ENVIRONMENT DSM_SWAP_BUFFER=1)
add_model_test(StateVectors.fifo COMMAND ${model_folder}/fifo.sh LABELS plain-only)
add_model_test(StateVectors.leap COMMAND ${hold_paused} leap LABELS plain-only ENVIRONMENT HOLD_SECONDS=280)
set_tests_properties(vm.StateVectors.leap PROPERTIES TIMEOUT 320) # 60,000 leaps, on however busy a machine
add_model_test(StateVectors.leap-call COMMAND ${hold} leap-call)
add_model_test(StateVectors.leap-end COMMAND ${hold} leap-end)
add_model_test(StateVectors.handler COMMAND ${hold} handler LABELS plain-only)
# Each write is late by a timer's least, some 60 us; in the long form by 1 ms.
add_model_test(Clean.store-meanwhile COMMAND ${hold} clean LABELS plain-only
  ENVIRONMENT DSM_FAILPOINT=write.begin:delay-0:1 DSM_LAUNDRY=off)

if(DSM_LONG_TESTS AND DSM_SANITIZE STREQUAL "")
  add_model_test(Model.long LABELS long COMMAND ${model} 1000 1100 100000)
  add_model_test(Clean.store-meanwhile-long LABELS long COMMAND ${hold} clean
    ENVIRONMENT DSM_FAILPOINT=write.begin:delay-1:1 DSM_LAUNDRY=off)
  set_tests_properties(vm.Model.long PROPERTIES TIMEOUT 1900)
endif()

# handover.sh safe|owned|faults|long
if(DSM_SANITIZE STREQUAL "")
  foreach(part safe owned faults)
    add_test(NAME model.handover.${part} COMMAND ${model_folder}/handover.sh ${part})
  endforeach()
  set(handovers model.handover.safe model.handover.owned model.handover.faults)
  if(DSM_LONG_TESTS)
    add_test(NAME model.handover.long COMMAND ${model_folder}/handover.sh long)
    list(APPEND handovers model.handover.long)
    set_tests_properties(model.handover.long PROPERTIES LABELS long)
  endif()
  set_tests_properties(${handovers} PROPERTIES TIMEOUT 600 SKIP_RETURN_CODE 77)
endif()
