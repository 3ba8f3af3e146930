#!/usr/bin/env bash
# Zig's C compiler from PyPI is how wheels with C are built where no compiler is. It compiles __builtin_cpu_supports, by which code asks for
# a quicker AVX-512 path, and then does not link: the variable behind it, which gcc and clang bring in their run-time libraries, is in none
# of Zig's. Of a program the linker says so; of a shared library it says "recompile with -fPIC", which was given. By <cpuid.h> both link.
# Guessed: what a compiler's own builtin needs, that compiler's linker has.
# Hurt: whoever builds where there is no `cc` and tests where there is one; the message sends them to the wrong place.
# Printed:
#   ziglang 0.17.0
#   a program that asks: 1, undefined symbol: __cpu_model
#   a shared library that asks: 1, relocation R_X86_64_PC32 cannot be used against symbol '__cpu_model'; recompile with -fPIC
#   a shared library that asks by cpuid.h: 0
set -euo pipefail
t=$(mktemp -d); trap 'rm -rf "$t"' EXIT
if command -v uv >/dev/null; then uv venv -q -p 3.11 "$t/v"; get() { uv pip install -q -p "$t/v/bin/python" "$@"; }
else python3 -m venv "$t/v"; get() { "$t/v/bin/pip" install -q "$@"; }; fi
get ziglang==0.17.0
cd "$t"
printf 'int wide(void) { return __builtin_cpu_supports("avx512f") != 0; }\n' >asks.c
printf 'int wide(void);\nint main(void) { return wide() < 0; }\n' >main.c
printf '#include <cpuid.h>\nint wide(void) { unsigned a, b, c, d; return __get_cpuid_count(7, 0, &a, &b, &c, &d) && b & 1u << 16; }\n' >by_cpuid.c
zig() { local code=0; ZIG_GLOBAL_CACHE_DIR=$t/cache v/bin/python -m ziglang cc -target x86_64-linux-gnu.2.31 -O2 "$@" 2>log || code=$?; echo $code; }
echo "ziglang $(v/bin/python -m ziglang version)"
program=$(zig -o program asks.c main.c); echo "a program that asks: $program, $(sed -n 's/.*error: \(undefined\)/\1/p' log | head -1)"
grep -q "undefined symbol: __cpu_model" log
library=$(zig -shared -fPIC -o asks.so asks.c); echo "a shared library that asks: $library, $(sed -n 's/.*error: \(relocation\)/\1/p' log | head -1)"
grep -q "__cpu_model" log
other=$(zig -shared -fPIC -o by_cpuid.so by_cpuid.c); echo "a shared library that asks by cpuid.h: $other"
[ "$program $library $other" = "1 1 0" ]
