; Loop over steps, for blocks of lifetimes. A step is a function of pointers to vectors, of which each lane is a lifetime:
;
;   step(shared constants, constants, state, stimulus, state after, observables, memory)
;
; Operands: shared constants, constants, state, stimuli. Results: state after the loop, observables, and rows for the
; states before the steps, which are written in turns: all steps are kept if there are as many rows, and else the last;
; and memory for a step.
define ptr @run(ptr %frame) {
  %asked = call i1 @asked(ptr %frame)
  br i1 %asked, label %end, label %start
start:
  %given.at = getelementptr i8, ptr %frame, i64 72
  %given = load ptr, ptr %given.at
  %results.at = getelementptr i8, ptr %frame, i64 112
  %results = load ptr, ptr %results.at
  %shared = call ptr @data(ptr %given, i64 0)
  %constants = call ptr @data(ptr %given, i64 1)
  %c.bytes = call i64 @bytes(ptr %given, i64 1, i64 1)
  %state = call ptr @data(ptr %given, i64 2)
  %bytes = call i64 @bytes(ptr %given, i64 2, i64 1)
  %x = call ptr @data(ptr %given, i64 3)
  %x.bytes = call i64 @bytes(ptr %given, i64 3, i64 2)
  %blocks = call i64 @size(ptr %given, i64 3, i64 0)
  %steps = call i64 @size(ptr %given, i64 3, i64 1)
  %x.block = mul i64 %x.bytes, %steps
  %after = call ptr @data(ptr %results, i64 0)
  %y = call ptr @data(ptr %results, i64 1)
  %y.bytes = call i64 @bytes(ptr %results, i64 1, i64 2)
  %y.block = mul i64 %y.bytes, %steps
  %rows = call ptr @data(ptr %results, i64 2)
  %count = call i64 @size(ptr %results, i64 2, i64 1)
  %rows.block = mul i64 %bytes, %count
  %memory = call ptr @data(ptr %results, i64 3)
  br label %block
block:
  %b = phi i64 [0, %start], [%b.next, %block.end]
  %c.b = call ptr @at(ptr %constants, i64 %c.bytes, i64 %b)
  %state.b = call ptr @at(ptr %state, i64 %bytes, i64 %b)
  %x.b = call ptr @at(ptr %x, i64 %x.block, i64 %b)
  %after.b = call ptr @at(ptr %after, i64 %bytes, i64 %b)
  %y.b = call ptr @at(ptr %y, i64 %y.block, i64 %b)
  %rows.b = call ptr @at(ptr %rows, i64 %rows.block, i64 %b)
  call void @llvm.memcpy.p0.p0.i64(ptr %rows.b, ptr %state.b, i64 %bytes, i1 false)
  br label %loop
loop:
  %t = phi i64 [0, %block], [%next, %loop]
  %next = add i64 %t, 1
  %over = icmp eq i64 %next, %steps
  %row = urem i64 %t, %count
  %before = call ptr @at(ptr %rows.b, i64 %bytes, i64 %row)
  %row.next = urem i64 %next, %count
  %kept = call ptr @at(ptr %rows.b, i64 %bytes, i64 %row.next)
  %to = select i1 %over, ptr %after.b, ptr %kept
  %x.t = call ptr @at(ptr %x.b, i64 %x.bytes, i64 %t)
  %y.t = call ptr @at(ptr %y.b, i64 %y.bytes, i64 %t)
  call void @step(ptr %shared, ptr %c.b, ptr %before, ptr %x.t, ptr %to, ptr %y.t, ptr %memory)
  br i1 %over, label %block.end, label %loop
block.end:
  %b.next = add i64 %b, 1
  %b.more = icmp slt i64 %b.next, %blocks
  br i1 %b.more, label %block, label %end
end:
  ret ptr null
}
