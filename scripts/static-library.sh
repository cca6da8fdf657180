#!/bin/bash
# static-library.sh OUTPUT - after static.sh: build libnvmepf-host.so, which the fio engine loads, with the Swift runtime in it.
# swift build links the runtime into programs alone, so what it compiled is linked here.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
output=${1:?usage: static-library.sh OUTPUT}
# It offers its own functions, not those of the archives in it, whose code is not made for a library that others may replace.
exports=--version-script=$PWD/FioEngine/nvmepf_host.map
archives=$PWD/.build/archives-$(dpkg --print-architecture)

PKG_CONFIG_PATH=$archives swift build -c release --scratch-path .build-static --product nvmepf-host --static-swift-stdlib \
  -Xlinker "$exports"
mkdir -p "$(dirname "$output")"
swiftc -static-stdlib -emit-library -module-name nvmepf_host -o "$output.new" \
  @.build-static/release/nvmepf-host.product/Objects.LinkFileList -L "$archives" -lzstd \
  -Xlinker --gc-sections -Xlinker "$exports"
strip "$output.new"
mv "$output.new" "$output"
echo "$output: $(du -h "$output" | cut -f1), needs $(ldd "$output" | awk '{ print $1 }' | grep -v -e vdso -e ld-linux | xargs)"
