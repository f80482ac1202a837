# SPDX-License-Identifier: Apache-2.0
# Published test vectors, through the code that the product runs.
add_executable(noise_vectors ${CMAKE_CURRENT_LIST_DIR}/noise_vectors.c)
target_link_libraries(noise_vectors PRIVATE rpc PkgConfig::JANSSON)
add_test(NAME vectors.noise
  COMMAND noise_vectors
    ${CMAKE_CURRENT_LIST_DIR}/noise_25519_AESGCM_BLAKE2b.json
    ${CMAKE_CURRENT_LIST_DIR}/noise_25519_ChaChaPoly_BLAKE2b.json)
add_test(NAME vectors.noise_wrong
  COMMAND bash ${CMAKE_CURRENT_LIST_DIR}/noise_vectors.sh $<TARGET_FILE:noise_vectors> ${CMAKE_CURRENT_LIST_DIR})
set_tests_properties(vectors.noise vectors.noise_wrong PROPERTIES TIMEOUT 120)
