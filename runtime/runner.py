"""The native runner: one fixed function that executes a table of step records on a pool of threads. The plan is its data.

It is LLVM IR text, compiled once per architecture for the oldest CPU of it, and cached. All words are 64 bit.

A *group* is a run of steps that one thread executes in order (a chain of tiny steps), or a single step cut into chunks. Every
group that is executed has a number of its own, its epoch (run's base + index of the group), which only grows. Chunks are dealt
out in contiguous ranges, one per thread; a thread claims the chunks of its own range first, so that each core meets the
same weights in every call, then those that others haven't begun. A claim is a compare-and-swap of the range's cursor (epoch,
next chunk): a thread that is late, or still in an earlier call, holds a smaller epoch and can never claim. No thread waits
for one that holds no chunk: a worker that sleeps, or lost its core, costs nothing but its help.

Before a group a thread waits until those it depends on are complete (their counts of chunks done are full). A check group looks
at the call's error word; a set one becomes the call's abort word, and no thread goes beyond.
"""

from __future__ import annotations

import ctypes
import functools
from dataclasses import dataclass

from . import cpu

WORD = 8
LINE = 64
MAX_THREADS = 256

# The context of a call: words. What threads write lies on lines of its own.
(
    CTX_STEPS,
    CTX_GROUPS,
    CTX_BUFFERS,
    CTX_START,
    CTX_END,
    CTX_THREADS,
    CTX_TLS,
    CTX_DONE,
    CTX_TIMES,
    CTX_BUDGET,
    CTX_COUNT,
    CTX_POOL,
) = range(12)
CTX_BASE, CTX_ABORT, CTX_RUN_START, CTX_RUN_END = 16, 17, 18, 19
CTX_ERROR = 24
CTX_RESUME, CTX_SYNCED, CTX_MODE, CTX_DEADLINE = 32, 33, 34, 35
CTX_WORDS = 40

# A step record, a group record.
STEP_FUNCTION, STEP_BUFFERS, STEP_PARAMS, STEP_UNITS, STEP_WORDS = 0, 1, 2, 3, 4
GROUP_FIRST, GROUP_COUNT, GROUP_CHUNKS, GROUP_AFTER, GROUP_FLAGS, GROUP_WORDS = 0, 1, 2, 3, 4, 8
CHECK, CLOCK = 1, 2  # flags of a group: tests the error word; the caller looks at the clock before it

# The pool: words, each on its own line; then two lines per thread: its cursor, its private words.
POOL_SEQUENCE, POOL_JOB, POOL_BUSY, POOL_SLEEPERS, POOL_WAITING, POOL_NOTIFY, POOL_EPOCH = (i * 8 for i in range(7))
POOL_SPINS, POOL_THREADS, POOL_STOP, POOL_CPU = 56, 57, 58, 59
POOL_CURSORS = 128
POOL_LINES = 144  # cursor of thread t at 128 + 16 t; its line (hazard, pool, number, sequence seen, thread id) at 136 + 16 t
POOL_HAZARDS = 136
POOL_WORDS = POOL_CURSORS + 16 * MAX_THREADS

DONE, YIELDED, ABORTED = 0, 1, 2  # what ``run`` returns
CANCEL = 1 << 62  # abort word of a call that was interrupted

_RELAX = {
    "x86_64": ("declare void @llvm.x86.sse2.pause()", "call void @llvm.x86.sse2.pause()"),
    "aarch64": ("declare void @llvm.aarch64.isb(i32)", "call void @llvm.aarch64.isb(i32 15)"),
}
_FUTEX = {"x86_64": 202, "aarch64": 98}
# System calls: gettid, sched_setaffinity, sched_getaffinity.
_PLACING = {"x86_64": (186, 203, 204), "aarch64": (178, 122, 123)}
CPU_BYTES = 128  # of a mask of CPUs
_WAIT, _WAKE = 128, 129  # FUTEX_PRIVATE_FLAG | FUTEX_WAIT, FUTEX_WAKE


def _at(name: str, base: str, word: int) -> str:
    return f"%{name} = getelementptr i64, ptr {base}, i64 {word}"


def text(arch: str) -> str:
    """The runner's LLVM IR."""
    relax_declaration, relax = _RELAX[arch]
    futex = _FUTEX[arch]
    gettid, setaffinity, getaffinity = _PLACING[arch]
    return f"""
declare i64 @syscall(i64, ...)
declare i32 @clock_gettime(i32, ptr)
declare i32 @sched_yield()
declare i32 @sched_getcpu()
declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)
{relax_declaration}

define internal i64 @now() {{
  %t = alloca [2 x i64]
  call i32 @clock_gettime(i32 1, ptr %t)
  %s = load i64, ptr %t
  {_at("np", "%t", 1)}
  %n = load i64, ptr %np
  %sn = mul i64 %s, 1000000000
  %r = add i64 %sn, %n
  ret i64 %r
}}

; n relaxations of the core, for calibration
define void @relax(i64 %n) {{
entry:
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %j, %loop ]
  {relax}
  %j = add i64 %i, 1
  %more = icmp ult i64 %j, %n
  br i1 %more, label %loop, label %out
out:
  ret void
}}

define internal void @wake(ptr %word) noinline {{
  call i64 (i64, ...) @syscall(i64 {futex}, ptr %word, i32 {_WAKE}, i32 2147483647, ptr null, ptr null, i32 0)
  ret void
}}

; keeps the workers that are about to wake off the caller's CPU: Linux often wakes a thread where its waker runs, and there the two would share one
; core for milliseconds while another is idle. Costs one look at the number of the CPU unless the caller has moved.
define internal void @spread(ptr %pool) noinline {{
entry:
  %mask = alloca [{CPU_BYTES} x i8], align 8
  %cpu32 = call i32 @sched_getcpu()
  %cpu = sext i32 %cpu32 to i64
  {_at("lastp", "%pool", POOL_CPU)}
  %last = load i64, ptr %lastp
  %next = add i64 %cpu, 1
  %same = icmp eq i64 %last, %next
  %known = icmp ult i64 %cpu, {8 * CPU_BYTES}
  %stay = xor i1 %known, true
  %done = or i1 %same, %stay
  br i1 %done, label %out, label %ask
ask:
  call void @llvm.memset.p0.i64(ptr %mask, i8 0, i64 {CPU_BYTES}, i1 false)
  %got = call i64 (i64, ...) @syscall(i64 {getaffinity}, i64 0, i64 {CPU_BYTES}, ptr %mask)
  %fine = icmp sgt i64 %got, 0
  br i1 %fine, label %clear, label %out
clear:
  %byte = lshr i64 %cpu, 3
  %bit = and i64 %cpu, 7
  %bp = getelementptr i8, ptr %mask, i64 %byte
  %b = load i8, ptr %bp
  %bit8 = trunc i64 %bit to i8
  %one = shl i8 1, %bit8
  %not = xor i8 %one, -1
  %b1 = and i8 %b, %not
  store i8 %b1, ptr %bp
  br label %look
look:
  %i = phi i64 [ 0, %clear ], [ %i1, %look ]
  %any = phi i64 [ 0, %clear ], [ %any1, %look ]
  %wp = getelementptr i64, ptr %mask, i64 %i
  %w = load i64, ptr %wp
  %any1 = or i64 %any, %w
  %i1 = add i64 %i, 1
  %more = icmp ult i64 %i1, {CPU_BYTES // 8}
  br i1 %more, label %look, label %others
others:
  ; the only CPU that the caller may use: then all share it
  %some = icmp ne i64 %any1, 0
  {_at("thp", "%pool", POOL_THREADS)}
  %threads = load i64, ptr %thp
  %several = icmp ugt i64 %threads, 1
  %go = and i1 %some, %several
  br i1 %go, label %thread, label %out
thread:
  %t = phi i64 [ 1, %others ], [ %t1, %placed ]
  %to = mul i64 %t, 16
  %io = add i64 %to, {POOL_HAZARDS + 4}
  %ip = getelementptr i64, ptr %pool, i64 %io
  %id = load atomic i64, ptr %ip seq_cst, align 8
  %there = icmp ne i64 %id, 0
  br i1 %there, label %place, label %out
place:
  call i64 (i64, ...) @syscall(i64 {setaffinity}, i64 %id, i64 {CPU_BYTES}, ptr %mask)
  br label %placed
placed:
  %t1 = add i64 %t, 1
  %on = icmp ult i64 %t1, %threads
  br i1 %on, label %thread, label %keep
keep:
  store i64 %next, ptr %lastp
  br label %out
out:
  ret void
}}

; steps [first, first + count), whole
define internal void @steps(ptr %ctx, i64 %first, i64 %count, i64 %chunk, i64 %chunks, ptr %tls) {{
entry:
  {_at("sp", "%ctx", CTX_STEPS)}
  %steps = load ptr, ptr %sp
  {_at("bp", "%ctx", CTX_BUFFERS)}
  %buffers = load ptr, ptr %bp
  %stop = add i64 %first, %count
  %any = icmp ult i64 %first, %stop
  br i1 %any, label %loop, label %out
loop:
  %i = phi i64 [ %first, %entry ], [ %next, %call ]
  %o = mul i64 %i, {STEP_WORDS}
  %rec = getelementptr i64, ptr %steps, i64 %o
  {_at("fp", "%rec", STEP_FUNCTION)}
  %f = load ptr, ptr %fp
  {_at("bop", "%rec", STEP_BUFFERS)}
  %bo = load i64, ptr %bop
  %bufs = getelementptr i8, ptr %buffers, i64 %bo
  {_at("pp", "%rec", STEP_PARAMS)}
  %params = load ptr, ptr %pp
  {_at("up", "%rec", STEP_UNITS)}
  %units = load i64, ptr %up
  %whole = icmp eq i64 %chunks, 1
  br i1 %whole, label %call, label %split
split:
  %b0 = mul i64 %units, %chunk
  %b1 = udiv i64 %b0, %chunks
  %c1 = add i64 %chunk, 1
  %e0 = mul i64 %units, %c1
  %e1 = udiv i64 %e0, %chunks
  br label %call
call:
  %begin = phi i64 [ 0, %loop ], [ %b1, %split ]
  %end = phi i64 [ %units, %loop ], [ %e1, %split ]
  call void %f(ptr %bufs, ptr %params, i64 %begin, i64 %end, ptr %tls)
  %next = add i64 %i, 1
  %more = icmp ult i64 %next, %stop
  br i1 %more, label %loop, label %out
out:
  ret void
}}

; one chunk of a group
define internal void @chunk(ptr %ctx, ptr %group, i64 %chunk, i64 %chunks, ptr %tls) {{
  {_at("flp", "%group", GROUP_FLAGS)}
  %fl = load i64, ptr %flp
  %ck = and i64 %fl, {CHECK}
  %is_check = icmp ne i64 %ck, 0
  br i1 %is_check, label %check, label %work
check:
  {_at("ep", "%ctx", CTX_ERROR)}
  %e = load atomic i64, ptr %ep seq_cst, align 8
  %bad = icmp ne i64 %e, 0
  br i1 %bad, label %abort, label %out
abort:
  {_at("ap", "%ctx", CTX_ABORT)}
  store atomic i64 %e, ptr %ap seq_cst, align 8
  br label %out
work:
  {_at("fp", "%group", GROUP_FIRST)}
  %first = load i64, ptr %fp
  {_at("np", "%group", GROUP_COUNT)}
  %n = load i64, ptr %np
  call void @steps(ptr %ctx, i64 %first, i64 %n, i64 %chunk, i64 %chunks, ptr %tls)
  br label %out
out:
  ret void
}}

; waits until group g is complete; true if the call was aborted, or if this thread belongs to an earlier call
define internal i1 @wait(ptr %pool, ptr %ctx, i64 %g, i64 %base) {{
entry:
  {_at("dpp", "%ctx", CTX_DONE)}
  %done = load ptr, ptr %dpp
  %d = getelementptr i64, ptr %done, i64 %g
  {_at("gpp", "%ctx", CTX_GROUPS)}
  %groups = load ptr, ptr %gpp
  %go = mul i64 %g, {GROUP_WORDS}
  %group = getelementptr i64, ptr %groups, i64 %go
  {_at("np", "%group", GROUP_CHUNKS)}
  %n = load i64, ptr %np
  {_at("abp", "%ctx", CTX_ABORT)}
  {_at("bap", "%ctx", CTX_BASE)}
  {_at("spp", "%pool", POOL_SPINS)}
  {_at("wp", "%pool", POOL_WAITING)}
  {_at("nop", "%pool", POOL_NOTIFY)}
  br label %again
again:
  %spins = load i64, ptr %spp
  br label %spin
spin:
  %i = phi i64 [ 0, %again ], [ %j, %pause ]
  %v = load atomic i64, ptr %d acquire, align 8
  %full = icmp uge i64 %v, %n
  br i1 %full, label %ok, label %pause
pause:
  {relax}
  %j = add i64 %i, 1
  %more = icmp ult i64 %j, %spins
  br i1 %more, label %spin, label %slow
slow:
  %ab = load atomic i64, ptr %abp seq_cst, align 8
  %aborted = icmp ne i64 %ab, 0
  %b = load atomic i64, ptr %bap seq_cst, align 8
  %other = icmp ne i64 %b, %base
  %leave = or i1 %aborted, %other
  br i1 %leave, label %gone, label %sleep
sleep:
  atomicrmw add ptr %wp, i64 1 seq_cst
  %note = load atomic i32, ptr %nop seq_cst, align 4
  %v2 = load atomic i64, ptr %d seq_cst, align 8
  %full2 = icmp uge i64 %v2, %n
  %ab2 = load atomic i64, ptr %abp seq_cst, align 8
  %aborted2 = icmp ne i64 %ab2, 0
  %skip = or i1 %full2, %aborted2
  br i1 %skip, label %awake, label %futex
futex:
  call i64 (i64, ...) @syscall(i64 {futex}, ptr %nop, i32 {_WAIT}, i32 %note, ptr null, ptr null, i32 0)
  br label %awake
awake:
  atomicrmw sub ptr %wp, i64 1 seq_cst
  br label %again
ok:
  ret i1 false
gone:
  ret i1 true
}}

; wakes those that sleep in @wait
define internal void @notify(ptr %pool) {{
  {_at("wp", "%pool", POOL_WAITING)}
  %w = load atomic i64, ptr %wp seq_cst, align 8
  %any = icmp ne i64 %w, 0
  br i1 %any, label %do, label %out
do:
  {_at("nop", "%pool", POOL_NOTIFY)}
  atomicrmw add ptr %nop, i32 1 seq_cst
  call void @wake(ptr %nop)
  br label %out
out:
  ret void
}}

; chunks [.., count) of range r at this epoch that nobody has claimed yet: executes them, returns how many
define internal i64 @claim(ptr %pool, ptr %ctx, ptr %group, i64 %epoch, i64 %r, i64 %first, i64 %count, i64 %chunks, ptr %tls) {{
entry:
  %ro = mul i64 %r, 16
  %co = add i64 %ro, {POOL_CURSORS}
  %cursor = getelementptr i64, ptr %pool, i64 %co
  %fresh = shl i64 %epoch, 16
  br label %look
look:
  %mine = phi i64 [ 0, %entry ], [ %mine, %try ], [ %mine1, %run ]
  %w = load atomic i64, ptr %cursor seq_cst, align 8
  %e = lshr i64 %w, 16
  %late = icmp ugt i64 %e, %epoch
  br i1 %late, label %out, label %here
here:
  %same = icmp eq i64 %e, %epoch
  %cur = and i64 %w, 65535
  %next = select i1 %same, i64 %cur, i64 0
  %left = icmp ult i64 %next, %count
  br i1 %left, label %try, label %out
try:
  %next1 = add i64 %next, 1
  %new = or i64 %fresh, %next1
  %pair = cmpxchg ptr %cursor, i64 %w, i64 %new seq_cst seq_cst
  %won = extractvalue {{ i64, i1 }} %pair, 1
  br i1 %won, label %run, label %look
run:
  %c = add i64 %first, %next
  call void @chunk(ptr %ctx, ptr %group, i64 %c, i64 %chunks, ptr %tls)
  %mine1 = add i64 %mine, 1
  br label %look
out:
  ret i64 %mine
}}

; one thread's way through groups [g0, end) of a call
define internal i64 @walk(ptr %pool, ptr %ctx, i64 %tid, i64 %threads, i64 %base, i64 %g0, i64 %end, i64 %synced0) {{
entry:
  {_at("gpp", "%ctx", CTX_GROUPS)}
  %groups = load ptr, ptr %gpp
  {_at("dpp", "%ctx", CTX_DONE)}
  %done = load ptr, ptr %dpp
  {_at("tlp", "%ctx", CTX_TLS)}
  %tlsbase = load ptr, ptr %tlp
  %tlo = mul i64 %tid, {LINE}
  %tls = getelementptr i8, ptr %tlsbase, i64 %tlo
  {_at("abp", "%ctx", CTX_ABORT)}
  %caller = icmp eq i64 %tid, 0
  %t1 = sub i64 %threads, 1
  br label %head
head:
  %g = phi i64 [ %g0, %entry ], [ %gnext, %tail ]
  %synced = phi i64 [ %synced0, %entry ], [ %s, %tail ]
  %in = icmp ult i64 %g, %end
  br i1 %in, label %begin, label %finish
begin:
  %ab = load atomic i64, ptr %abp monotonic, align 8
  %aborted = icmp ne i64 %ab, 0
  br i1 %aborted, label %gone, label %enter
enter:
  %go = mul i64 %g, {GROUP_WORDS}
  %group = getelementptr i64, ptr %groups, i64 %go
  {_at("fp", "%group", GROUP_FLAGS)}
  %flags = load i64, ptr %fp
  %ckf = and i64 %flags, {CLOCK}
  %ck0 = icmp ne i64 %ckf, 0
  %ck = and i1 %ck0, %caller
  br i1 %ck, label %clock, label %deps
clock:
  {_at("dlp", "%ctx", CTX_DEADLINE)}
  %dl = load i64, ptr %dlp
  %timed = icmp ne i64 %dl, 0
  br i1 %timed, label %look, label %deps
look:
  %now = call i64 @now()
  %over = icmp sgt i64 %now, %dl
  br i1 %over, label %yield, label %deps
yield:
  {_at("rep", "%ctx", CTX_RESUME)}
  store i64 %g, ptr %rep
  {_at("syp", "%ctx", CTX_SYNCED)}
  store i64 %synced, ptr %syp
  ret i64 {YIELDED}
deps:
  {_at("afp", "%group", GROUP_AFTER)}
  %after = load i64, ptr %afp
  br label %dep
dep:
  %s = phi i64 [ %synced, %deps ], [ %s1, %waited ]
  %behind = icmp slt i64 %s, %after
  br i1 %behind, label %await, label %ready
await:
  %s1 = add i64 %s, 1
  %stop = call i1 @wait(ptr %pool, ptr %ctx, i64 %s1, i64 %base)
  br i1 %stop, label %gone, label %waited
waited:
  br label %dep
ready:
  %ab2 = load atomic i64, ptr %abp monotonic, align 8
  %aborted2 = icmp ne i64 %ab2, 0
  br i1 %aborted2, label %gone, label %deal
deal:
  {_at("np", "%group", GROUP_CHUNKS)}
  %n = load i64, ptr %np
  %epoch = add i64 %base, %g
  br label %range
range:
  %k = phi i64 [ 0, %deal ], [ %k1, %ranged ]
  %mine = phi i64 [ 0, %deal ], [ %mine1, %ranged ]
  %rk = add i64 %tid, %k
  %wrap = icmp uge i64 %rk, %threads
  %rk2 = sub i64 %rk, %threads
  %r = select i1 %wrap, i64 %rk2, i64 %rk
  %lo0 = mul i64 %r, %n
  %lo1 = add i64 %lo0, %t1
  %lo = udiv i64 %lo1, %threads
  %hi0 = add i64 %lo1, %n
  %hi = udiv i64 %hi0, %threads
  %count = sub i64 %hi, %lo
  %some = icmp ne i64 %count, 0
  br i1 %some, label %polite, label %skip
polite:
  ; a chunk that is another's by right: its owner gets a moment to begin
  %others = icmp ne i64 %k, 0
  %idle = icmp eq i64 %mine, 0
  %defer = and i1 %others, %idle
  br i1 %defer, label %courtesy, label %take
courtesy:
  %cro = mul i64 %r, 16
  %cco = add i64 %cro, {POOL_CURSORS}
  %ccur = getelementptr i64, ptr %pool, i64 %cco
  br label %pause
pause:
  %pi = phi i64 [ 0, %courtesy ], [ %pj, %pause ]
  {relax}
  %pw = load atomic i64, ptr %ccur monotonic, align 8
  %pe = lshr i64 %pw, 16
  %begun = icmp uge i64 %pe, %epoch
  %pj = add i64 %pi, 1
  %enough = icmp uge i64 %pj, 64
  %goon = or i1 %begun, %enough
  br i1 %goon, label %take, label %pause
take:
  %got = call i64 @claim(ptr %pool, ptr %ctx, ptr %group, i64 %epoch, i64 %r, i64 %lo, i64 %count, i64 %n, ptr %tls)
  br label %ranged
skip:
  br label %ranged
ranged:
  %g2 = phi i64 [ %got, %take ], [ 0, %skip ]
  %mine1 = add i64 %mine, %g2
  %k1 = add i64 %k, 1
  %others_left = icmp ult i64 %k1, %threads
  br i1 %others_left, label %range, label %count_up
count_up:
  %worked = icmp ne i64 %mine1, 0
  br i1 %worked, label %profile, label %tail
profile:
  {_at("tip", "%ctx", CTX_TIMES)}
  %times = load ptr, ptr %tip
  %timing = icmp ne ptr %times, null
  br i1 %timing, label %stamp, label %report
stamp:
  ; the latest of its threads' times is the group's; written before the group counts as complete
  %clk = call i64 @now()
  %tp = getelementptr i64, ptr %times, i64 %g
  atomicrmw max ptr %tp, i64 %clk seq_cst
  br label %report
report:
  %d = getelementptr i64, ptr %done, i64 %g
  atomicrmw add ptr %d, i64 %mine1 seq_cst
  call void @notify(ptr %pool)
  br label %tail
tail:
  %gnext = add i64 %g, 1
  br label %head
finish:
  br i1 %caller, label %drain, label %out
drain:
  %z = phi i64 [ %synced, %finish ], [ %z1, %drained ]
  %zn = add i64 %z, 1
  %rest = icmp slt i64 %zn, %end
  br i1 %rest, label %last, label %out
last:
  %stop2 = call i1 @wait(ptr %pool, ptr %ctx, i64 %zn, i64 %base)
  br i1 %stop2, label %gone, label %drained
drained:
  %z1 = add i64 %z, 1
  br label %drain
out:
  ret i64 {DONE}
gone:
  ret i64 {ABORTED}
}}

; returns when no worker is inside this call
define internal void @quiesce(ptr %pool, ptr %ctx) {{
entry:
  {_at("jp", "%pool", POOL_JOB)}
  store atomic ptr null, ptr %jp seq_cst, align 8
  {_at("tp", "%pool", POOL_THREADS)}
  %n = load i64, ptr %tp
  br label %head
head:
  %t = phi i64 [ 1, %entry ], [ %tn, %next ]
  %in = icmp ult i64 %t, %n
  br i1 %in, label %again, label %out
again:
  %to = mul i64 %t, 16
  %ho = add i64 %to, {POOL_HAZARDS}
  %hp = getelementptr i64, ptr %pool, i64 %ho
  %h = load atomic ptr, ptr %hp seq_cst, align 8
  %inside = icmp eq ptr %h, %ctx
  br i1 %inside, label %nap, label %next
nap:
  call void @notify(ptr %pool)
  call i32 @sched_yield()
  br label %again
next:
  %tn = add i64 %t, 1
  br label %head
out:
  ret void
}}

; the whole call on this thread alone: the same chunks of work, so the same bits
define internal i64 @alone(ptr %ctx, i64 %g0) {{
entry:
  {_at("gpp", "%ctx", CTX_GROUPS)}
  %groups = load ptr, ptr %gpp
  {_at("tlp", "%ctx", CTX_TLS)}
  %tls = load ptr, ptr %tlp
  {_at("enp", "%ctx", CTX_END)}
  %end = load i64, ptr %enp
  {_at("dlp", "%ctx", CTX_DEADLINE)}
  %dl = load i64, ptr %dlp
  %timed = icmp ne i64 %dl, 0
  {_at("abp", "%ctx", CTX_ABORT)}
  {_at("tip", "%ctx", CTX_TIMES)}
  %times = load ptr, ptr %tip
  %timing = icmp ne ptr %times, null
  br label %head
head:
  %g = phi i64 [ %g0, %entry ], [ %gn, %tail ]
  %in = icmp ult i64 %g, %end
  br i1 %in, label %enter, label %out
enter:
  %go = mul i64 %g, {GROUP_WORDS}
  %group = getelementptr i64, ptr %groups, i64 %go
  {_at("fp", "%group", GROUP_FLAGS)}
  %flags = load i64, ptr %fp
  %ckf = and i64 %flags, {CLOCK}
  %ck0 = icmp ne i64 %ckf, 0
  %ck = and i1 %ck0, %timed
  br i1 %ck, label %clock, label %work
clock:
  %now = call i64 @now()
  %over = icmp sgt i64 %now, %dl
  br i1 %over, label %yield, label %work
yield:
  {_at("rep", "%ctx", CTX_RESUME)}
  store i64 %g, ptr %rep
  ret i64 {YIELDED}
work:
  call void @chunk(ptr %ctx, ptr %group, i64 0, i64 1, ptr %tls)
  %checkf = and i64 %flags, {CHECK}
  %check = icmp ne i64 %checkf, 0
  br i1 %check, label %checked, label %profile
checked:
  %ab = load atomic i64, ptr %abp monotonic, align 8
  %aborted = icmp ne i64 %ab, 0
  br i1 %aborted, label %gone, label %profile
profile:
  br i1 %timing, label %stamp, label %tail
stamp:
  %clk = call i64 @now()
  %tp = getelementptr i64, ptr %times, i64 %g
  store i64 %clk, ptr %tp
  br label %tail
tail:
  %gn = add i64 %g, 1
  br label %head
out:
  ret i64 {DONE}
gone:
  ret i64 {ABORTED}
}}

; the entry: begins or goes on with groups [start, end) of a context
define i64 @run(ptr %ctx) {{
entry:
  {_at("plp", "%ctx", CTX_POOL)}
  %pool = load ptr, ptr %plp
  {_at("bup", "%ctx", CTX_BUDGET)}
  %budget = load i64, ptr %bup
  {_at("dlp", "%ctx", CTX_DEADLINE)}
  %timed = icmp ne i64 %budget, 0
  br i1 %timed, label %clock, label %mode
clock:
  %now = call i64 @now()
  %dl = add i64 %now, %budget
  store i64 %dl, ptr %dlp
  br label %mode
mode:
  {_at("mp", "%ctx", CTX_MODE)}
  %m = load i64, ptr %mp
  {_at("rep", "%ctx", CTX_RESUME)}
  {_at("stp", "%ctx", CTX_START)}
  %start = load i64, ptr %stp
  {_at("enp", "%ctx", CTX_END)}
  %end = load i64, ptr %enp
  {_at("thp", "%ctx", CTX_THREADS)}
  %threads = load i64, ptr %thp
  {_at("bap", "%ctx", CTX_BASE)}
  {_at("abp", "%ctx", CTX_ABORT)}
  {_at("erp", "%ctx", CTX_ERROR)}
  {_at("syp", "%ctx", CTX_SYNCED)}
  {_at("bsp", "%pool", POOL_BUSY)}
  {_at("jp", "%pool", POOL_JOB)}
  switch i64 %m, label %begin [ i64 1, label %pooled
                                i64 2, label %single ]
begin:
  store atomic i64 0, ptr %abp seq_cst, align 8
  %first = icmp eq i64 %start, 0
  br i1 %first, label %clear, label %choose
clear:
  store i64 0, ptr %erp
  br label %choose
choose:
  store i64 %start, ptr %rep
  %many = icmp ugt i64 %threads, 1
  br i1 %many, label %ask, label %go_alone
ask:
  %pair = cmpxchg ptr %bsp, i64 0, i64 1 seq_cst seq_cst
  %won = extractvalue {{ i64, i1 }} %pair, 1
  br i1 %won, label %post, label %go_alone
go_alone:
  store i64 2, ptr %mp
  br label %single
single:
  %g1 = load i64, ptr %rep
  %st1 = call i64 @alone(ptr %ctx, i64 %g1)
  %y1 = icmp eq i64 %st1, {YIELDED}
  br i1 %y1, label %yielded, label %ended
post:
  store i64 1, ptr %mp
  {_at("cop", "%ctx", CTX_COUNT)}
  %total = load i64, ptr %cop
  {_at("epp", "%pool", POOL_EPOCH)}
  %base = load i64, ptr %epp
  %base1 = add i64 %base, %total
  store i64 %base1, ptr %epp
  ; a worker reads base, range, base: with a base that changes first and last it never mixes two calls
  store atomic i64 0, ptr %bap seq_cst, align 8
  {_at("dop", "%ctx", CTX_DONE)}
  %done = load ptr, ptr %dop
  %d0 = getelementptr i64, ptr %done, i64 %start
  %n0 = sub i64 %end, %start
  %nb = mul i64 %n0, 8
  call void @llvm.memset.p0.i64(ptr %d0, i8 0, i64 %nb, i1 false)
  {_at("rsp", "%ctx", CTX_RUN_START)}
  store atomic i64 %start, ptr %rsp seq_cst, align 8
  {_at("rnp", "%ctx", CTX_RUN_END)}
  store atomic i64 %end, ptr %rnp seq_cst, align 8
  %before = sub i64 %start, 1
  store i64 %before, ptr %syp
  store atomic i64 %base, ptr %bap seq_cst, align 8
  store atomic ptr %ctx, ptr %jp seq_cst, align 8
  {_at("sqp", "%pool", POOL_SEQUENCE)}
  atomicrmw add ptr %sqp, i64 1 seq_cst
  {_at("slp", "%pool", POOL_SLEEPERS)}
  %sl = load atomic i64, ptr %slp seq_cst, align 8
  %asleep = icmp ne i64 %sl, 0
  br i1 %asleep, label %rouse, label %pooled
rouse:
  call void @spread(ptr %pool)
  call void @wake(ptr %sqp)
  br label %pooled
pooled:
  %base2 = load i64, ptr %bap
  %g2 = load i64, ptr %rep
  %sy = load i64, ptr %syp
  %st2 = call i64 @walk(ptr %pool, ptr %ctx, i64 0, i64 %threads, i64 %base2, i64 %g2, i64 %end, i64 %sy)
  switch i64 %st2, label %stop [ i64 {YIELDED}, label %yielded
                                 i64 {DONE}, label %release ]
stop:
  call void @quiesce(ptr %pool, ptr %ctx)
  br label %release
release:
  store atomic ptr null, ptr %jp seq_cst, align 8
  store atomic i64 0, ptr %bsp seq_cst, align 8
  br label %ended
ended:
  store i64 0, ptr %mp
  %err = load atomic i64, ptr %erp seq_cst, align 8
  %bad = icmp ne i64 %err, 0
  %st = select i1 %bad, i64 {ABORTED}, i64 {DONE}
  ret i64 %st
yielded:
  ret i64 {YIELDED}
}}

; gives up a call that has yielded; afterwards no thread touches its memory
define internal void @cancel(ptr %pool, ptr %ctx) {{
  {_at("abp", "%ctx", CTX_ABORT)}
  store atomic i64 {CANCEL}, ptr %abp seq_cst, align 8
  {_at("mp", "%ctx", CTX_MODE)}
  %m = load i64, ptr %mp
  store i64 0, ptr %mp
  %pooled = icmp eq i64 %m, 1
  br i1 %pooled, label %stop, label %out
stop:
  call void @quiesce(ptr %pool, ptr %ctx)
  {_at("bsp", "%pool", POOL_BUSY)}
  store atomic i64 0, ptr %bsp seq_cst, align 8
  br label %out
out:
  ret void
}}

; gives up a call that has yielded, unless it is beyond group %gate (-1: none): then 1, and the call has to be finished
define i64 @interrupt(ptr %ctx, i64 %gate) {{
entry:
  {_at("plp", "%ctx", CTX_POOL)}
  %pool = load ptr, ptr %plp
  %none = icmp slt i64 %gate, 0
  br i1 %none, label %give_up, label %gated
gated:
  {_at("mp", "%ctx", CTX_MODE)}
  %m = load i64, ptr %mp
  %pooled = icmp eq i64 %m, 1
  br i1 %pooled, label %shared, label %single
single:
  {_at("rep", "%ctx", CTX_RESUME)}
  %g = load i64, ptr %rep
  %beyond1 = icmp sgt i64 %g, %gate
  br i1 %beyond1, label %finish, label %give_up
shared:
  ; the error is set before the gate is looked at: a thread that claims the gate later on finds it
  {_at("erp", "%ctx", CTX_ERROR)}
  store atomic i64 {CANCEL}, ptr %erp seq_cst, align 8
  {_at("cup", "%pool", POOL_CURSORS)}
  %w = load atomic i64, ptr %cup seq_cst, align 8
  %e = lshr i64 %w, 16
  {_at("bap", "%ctx", CTX_BASE)}
  %base = load i64, ptr %bap
  %eg = add i64 %base, %gate
  %beyond2 = icmp uge i64 %e, %eg
  br i1 %beyond2, label %finish, label %give_up
give_up:
  call void @cancel(ptr %pool, ptr %ctx)
  ret i64 0
finish:
  ret i64 1
}}

; lets the threads of a pool end
define void @retire(ptr %pool) {{
  {_at("sop", "%pool", POOL_STOP)}
  store atomic i64 1, ptr %sop seq_cst, align 8
  {_at("sqp", "%pool", POOL_SEQUENCE)}
  atomicrmw add ptr %sqp, i64 1 seq_cst
  call void @wake(ptr %sqp)
  ret void
}}

; what a thread of the pool does for ever
define ptr @worker(ptr %line) {{
entry:
  {_at("plp", "%line", 1)}
  %pool = load ptr, ptr %plp
  {_at("idp", "%line", 2)}
  %tid = load i64, ptr %idp
  {_at("sep", "%line", 3)}
  {_at("idn", "%line", 4)}
  %self = call i64 (i64, ...) @syscall(i64 {gettid})
  store atomic i64 %self, ptr %idn seq_cst, align 8
  {_at("sqp", "%pool", POOL_SEQUENCE)}
  {_at("jp", "%pool", POOL_JOB)}
  {_at("slp", "%pool", POOL_SLEEPERS)}
  {_at("spp", "%pool", POOL_SPINS)}
  {_at("sop", "%pool", POOL_STOP)}
  br label %top
top:
  %seen = load i64, ptr %sep
  %spins = load i64, ptr %spp
  br label %spin
spin:
  %i = phi i64 [ 0, %top ], [ %j, %pause ]
  %s = load atomic i64, ptr %sqp seq_cst, align 8
  %new = icmp ne i64 %s, %seen
  br i1 %new, label %job, label %pause
pause:
  {relax}
  %j = add i64 %i, 1
  %more = icmp ult i64 %j, %spins
  br i1 %more, label %spin, label %doze
doze:
  atomicrmw add ptr %slp, i64 1 seq_cst
  %s2 = load atomic i64, ptr %sqp seq_cst, align 8
  %still = icmp eq i64 %s2, %seen
  br i1 %still, label %futex, label %rise
futex:
  %low = trunc i64 %seen to i32
  call i64 (i64, ...) @syscall(i64 {futex}, ptr %sqp, i32 {_WAIT}, i32 %low, ptr null, ptr null, i32 0)
  br label %rise
rise:
  atomicrmw sub ptr %slp, i64 1 seq_cst
  br label %top
job:
  store i64 %s, ptr %sep
  %st = load atomic i64, ptr %sop seq_cst, align 8
  %stop = icmp ne i64 %st, 0
  br i1 %stop, label %exit, label %peek
peek:
  %c = load atomic ptr, ptr %jp seq_cst, align 8
  %none = icmp eq ptr %c, null
  br i1 %none, label %top, label %announce
announce:
  ; said before looked at again: from here on the context's memory is not freed
  store atomic ptr %c, ptr %line seq_cst, align 8
  %c2 = load atomic ptr, ptr %jp seq_cst, align 8
  %same = icmp eq ptr %c, %c2
  br i1 %same, label %read, label %leave
read:
  {_at("bap", "%c", CTX_BASE)}
  {_at("rsp", "%c", CTX_RUN_START)}
  {_at("rnp", "%c", CTX_RUN_END)}
  {_at("thp", "%c", CTX_THREADS)}
  %b = load atomic i64, ptr %bap seq_cst, align 8
  %g0 = load atomic i64, ptr %rsp seq_cst, align 8
  %end = load atomic i64, ptr %rnp seq_cst, align 8
  %b2 = load atomic i64, ptr %bap seq_cst, align 8
  %threads = load i64, ptr %thp
  %valid = icmp ne i64 %b, 0
  %stable = icmp eq i64 %b, %b2
  %member = icmp ult i64 %tid, %threads
  %q0 = and i1 %valid, %stable
  %q1 = and i1 %q0, %member
  br i1 %q1, label %help, label %leave
help:
  %before = sub i64 %g0, 1
  call i64 @walk(ptr %pool, ptr %c, i64 %tid, i64 %threads, i64 %b, i64 %g0, i64 %end, i64 %before)
  br label %leave
leave:
  store atomic ptr null, ptr %line seq_cst, align 8
  br label %top
exit:
  ret ptr null
}}
"""


@dataclass(frozen=True)
class Native:
    """The runner's entries. ``run`` lets other Python threads go on meanwhile, ``run_held`` doesn't: quicker for short calls."""

    run: object
    run_held: object
    interrupt: object
    retire: object
    relax: object
    worker: int


@functools.cache
def native() -> Native:
    """The runner, compiled (or from the cache) and loaded."""
    arch = cpu._arch()
    machine = cpu.Machine(arch, "x86-64" if arch == "x86_64" else "generic", ())
    image = cpu.object_code(text(arch), machine, opt=2)
    at = cpu.load(image, ("run", "interrupt", "retire", "relax", "worker"))
    pointer = ctypes.c_void_p
    return Native(
        run=ctypes.CFUNCTYPE(ctypes.c_int64, pointer)(at["run"]),
        run_held=ctypes.PYFUNCTYPE(ctypes.c_int64, pointer)(at["run"]),
        interrupt=ctypes.CFUNCTYPE(ctypes.c_int64, pointer, ctypes.c_int64)(at["interrupt"]),
        retire=ctypes.CFUNCTYPE(None, pointer)(at["retire"]),
        relax=ctypes.CFUNCTYPE(None, ctypes.c_int64)(at["relax"]),
        worker=at["worker"],
    )
