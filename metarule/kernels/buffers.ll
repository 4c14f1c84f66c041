; What the loops share: buffers of XLA, and the answer to its question for the version of its interface. Arrays are
; [blocks, numbers, lanes] or [blocks, steps, numbers, lanes]; sizes are those of XLA's buffers.

declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)
declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)

; Buffer number %index of a call, as laid out in xla/ffi/api/c_api.h.
define internal ptr @buffer(ptr %buffers, i64 %index) {
  %at = getelementptr ptr, ptr %buffers, i64 %index
  %buffer = load ptr, ptr %at
  ret ptr %buffer
}

define internal ptr @data(ptr %buffers, i64 %index) {
  %buffer = call ptr @buffer(ptr %buffers, i64 %index)
  %at = getelementptr i8, ptr %buffer, i64 24
  %data = load ptr, ptr %at
  ret ptr %data
}

define internal i64 @size(ptr %buffers, i64 %index, i64 %axis) {
  %buffer = call ptr @buffer(ptr %buffers, i64 %index)
  %sizes.at = getelementptr i8, ptr %buffer, i64 40
  %sizes = load ptr, ptr %sizes.at
  %at = getelementptr i64, ptr %sizes, i64 %axis
  %size = load i64, ptr %at
  ret i64 %size
}

; Bytes of the numbers of one block or step: the product of the sizes of an axis and the next one.
define internal i64 @bytes(ptr %buffers, i64 %index, i64 %axis) {
  %numbers = call i64 @size(ptr %buffers, i64 %index, i64 %axis)
  %next = add i64 %axis, 1
  %lanes = call i64 @size(ptr %buffers, i64 %index, i64 %next)
  %vectors = mul i64 %numbers, %lanes
  %bytes = mul i64 %vectors, {bytes}
  ret i64 %bytes
}

define internal ptr @at(ptr %array, i64 %bytes, i64 %index) {
  %offset = mul i64 %bytes, %index
  %at = getelementptr i8, ptr %array, i64 %offset
  ret ptr %at
}

; True if XLA asks for the version of its interface, which is then given.
define internal i1 @asked(ptr %frame) {
  %extension.at = getelementptr i8, ptr %frame, i64 8
  %extension = load ptr, ptr %extension.at
  %asked = icmp ne ptr %extension, null
  br i1 %asked, label %answer, label %end
answer:
  %metadata.at = getelementptr i8, ptr %extension, i64 24
  %metadata = load ptr, ptr %metadata.at
  %major = getelementptr i8, ptr %metadata, i64 24
  store i32 {major}, ptr %major
  %minor = getelementptr i8, ptr %metadata, i64 28
  store i32 {minor}, ptr %minor
  br label %end
end:
  ret i1 %asked
}
