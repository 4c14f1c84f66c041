; Adjoint of the loop, which runs backwards over the states of all steps. Here a step is
;
;   step(shared constants, constants, state, stimulus, cotangents of the state after and then of the state,
;        cotangents of the observables, sum of the cotangents of constants, cotangents of the stimulus, memory)
;
; Operands: shared constants, constants, stored states, stimuli, cotangents of the state after the loop and of the
; observables. Results: cotangents of constants, state and stimuli, and memory for a step.
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
  %rows = call ptr @data(ptr %given, i64 2)
  %bytes = call i64 @bytes(ptr %given, i64 2, i64 2)
  %x = call ptr @data(ptr %given, i64 3)
  %x.bytes = call i64 @bytes(ptr %given, i64 3, i64 2)
  %blocks = call i64 @size(ptr %given, i64 3, i64 0)
  %steps = call i64 @size(ptr %given, i64 3, i64 1)
  %x.block = mul i64 %x.bytes, %steps
  %rows.block = mul i64 %bytes, %steps
  %g.last = call ptr @data(ptr %given, i64 4)
  %gy = call ptr @data(ptr %given, i64 5)
  %gy.bytes = call i64 @bytes(ptr %given, i64 5, i64 2)
  %gy.block = mul i64 %gy.bytes, %steps
  %dc = call ptr @data(ptr %results, i64 0)
  %dc.bytes = call i64 @bytes(ptr %results, i64 0, i64 1)
  %g = call ptr @data(ptr %results, i64 1)
  %dx = call ptr @data(ptr %results, i64 2)
  %dx.bytes = call i64 @bytes(ptr %results, i64 2, i64 2)
  %dx.block = mul i64 %dx.bytes, %steps
  %memory = call ptr @data(ptr %results, i64 3)
  br label %block
block:
  %b = phi i64 [0, %start], [%b.next, %block.end]
  %c.b = call ptr @at(ptr %constants, i64 %c.bytes, i64 %b)
  %rows.b = call ptr @at(ptr %rows, i64 %rows.block, i64 %b)
  %x.b = call ptr @at(ptr %x, i64 %x.block, i64 %b)
  %g.last.b = call ptr @at(ptr %g.last, i64 %bytes, i64 %b)
  %gy.b = call ptr @at(ptr %gy, i64 %gy.block, i64 %b)
  %dc.b = call ptr @at(ptr %dc, i64 %dc.bytes, i64 %b)
  %g.b = call ptr @at(ptr %g, i64 %bytes, i64 %b)
  %dx.b = call ptr @at(ptr %dx, i64 %dx.block, i64 %b)
  call void @llvm.memcpy.p0.p0.i64(ptr %g.b, ptr %g.last.b, i64 %bytes, i1 false)
  call void @llvm.memset.p0.i64(ptr %dc.b, i8 0, i64 %dc.bytes, i1 false)
  br label %back
back:
  %t = phi i64 [%steps, %block], [%t.here, %back]
  %t.here = sub i64 %t, 1
  %t.state = call ptr @at(ptr %rows.b, i64 %bytes, i64 %t.here)
  %t.x = call ptr @at(ptr %x.b, i64 %x.bytes, i64 %t.here)
  %t.gy = call ptr @at(ptr %gy.b, i64 %gy.bytes, i64 %t.here)
  %t.dx = call ptr @at(ptr %dx.b, i64 %dx.bytes, i64 %t.here)
  call void @step(ptr %shared, ptr %c.b, ptr %t.state, ptr %t.x, ptr %g.b, ptr %t.gy, ptr %dc.b, ptr %t.dx, ptr %memory)
  %t.more = icmp sgt i64 %t.here, 0
  br i1 %t.more, label %back, label %block.end
block.end:
  %b.next = add i64 %b, 1
  %b.more = icmp slt i64 %b.next, %blocks
  br i1 %b.more, label %block, label %end
end:
  ret ptr null
}
