; Threefry-2x32 with 20 rounds (Salmon, Moraes, Dror, Shaw 2011) of arrays, in registers of 16 numbers.
;
; Operands: two words of the keys [numbers] or [rows]; two words of the counts [numbers] or [numbers / rows], which are
; the same in all rows. Results: two words [numbers], at least one.

%pair = type {<16 x i32>, <16 x i32>}

declare <16 x i32> @llvm.fshl.v16i32(<16 x i32>, <16 x i32>, <16 x i32>)
declare <16 x i32> @llvm.masked.load.v16i32.p0(ptr, i32, <16 x i1>, <16 x i32>)
declare i64 @llvm.smin.i64(i64, i64)
declare void @llvm.masked.store.v16i32.p0(<16 x i32>, ptr, i32, <16 x i1>)

define internal <16 x i32> @all(i32 %number) alwaysinline {
  %first = insertelement <16 x i32> poison, i32 %number, i32 0
  %all = shufflevector <16 x i32> %first, <16 x i32> poison, <16 x i32> zeroinitializer
  ret <16 x i32> %all
}

; One round.
define internal %pair @mixed(%pair %words, i32 %bits) alwaysinline {
  %x = extractvalue %pair %words, 0
  %y = extractvalue %pair %words, 1
  %sum = add <16 x i32> %x, %y
  %by = call <16 x i32> @all(i32 %bits)
  %turned = call <16 x i32> @llvm.fshl.v16i32(<16 x i32> %y, <16 x i32> %y, <16 x i32> %by)
  %new = xor <16 x i32> %sum, %turned
  %half = insertvalue %pair poison, <16 x i32> %sum, 0
  %mixed = insertvalue %pair %half, <16 x i32> %new, 1
  ret %pair %mixed
}

; Four rounds, after which two words of the key and the number of the group are added.
define internal %pair @group(%pair %words, i32 %a, i32 %b, i32 %c, i32 %d,
                             <16 x i32> %key, <16 x i32> %next, i32 %number) alwaysinline {
  %1 = call %pair @mixed(%pair %words, i32 %a)
  %2 = call %pair @mixed(%pair %1, i32 %b)
  %3 = call %pair @mixed(%pair %2, i32 %c)
  %4 = call %pair @mixed(%pair %3, i32 %d)
  %x = extractvalue %pair %4, 0
  %y = extractvalue %pair %4, 1
  %x.new = add <16 x i32> %x, %key
  %y.sum = add <16 x i32> %y, %next
  %count = call <16 x i32> @all(i32 %number)
  %y.new = add <16 x i32> %y.sum, %count
  %half = insertvalue %pair poison, <16 x i32> %x.new, 0
  %group = insertvalue %pair %half, <16 x i32> %y.new, 1
  ret %pair %group
}

define internal <16 x i32> @load(ptr %array, i64 %index, <16 x i1> %mask, <16 x i32> %else) alwaysinline {
  %at = getelementptr i32, ptr %array, i64 %index
  %words = call <16 x i32> @llvm.masked.load.v16i32.p0(ptr %at, i32 4, <16 x i1> %mask, <16 x i32> %else)
  ret <16 x i32> %words
}

; The word of a row in all lanes.
define internal <16 x i32> @word(ptr %array, i64 %row) alwaysinline {
  %at = getelementptr i32, ptr %array, i64 %row
  %word = load i32, ptr %at
  %all = call <16 x i32> @all(i32 %word)
  ret <16 x i32> %all
}

define internal void @store(<16 x i32> %words, ptr %array, i64 %index, <16 x i1> %mask) alwaysinline {
  %at = getelementptr i32, ptr %array, i64 %index
  call void @llvm.masked.store.v16i32.p0(<16 x i32> %words, ptr %at, i32 4, <16 x i1> %mask)
  ret void
}

define ptr @run(ptr %frame) {
  %asked = call i1 @asked(ptr %frame)
  br i1 %asked, label %end, label %start
start:
  %given.at = getelementptr i8, ptr %frame, i64 72
  %given = load ptr, ptr %given.at
  %results.at = getelementptr i8, ptr %frame, i64 112
  %results = load ptr, ptr %results.at
  %key0 = call ptr @data(ptr %given, i64 0)
  %key1 = call ptr @data(ptr %given, i64 1)
  %count0 = call ptr @data(ptr %given, i64 2)
  %count1 = call ptr @data(ptr %given, i64 3)
  %word0 = call ptr @data(ptr %results, i64 0)
  %word1 = call ptr @data(ptr %results, i64 1)
  %numbers = call i64 @size(ptr %results, i64 0, i64 0)
  %keys = call i64 @size(ptr %given, i64 0, i64 0)
  %counts = call i64 @size(ptr %given, i64 2, i64 0)
  %own.keys = icmp eq i64 %keys, %numbers
  %rows = select i1 %own.keys, i64 1, i64 %keys
  %columns = udiv i64 %numbers, %rows
  %own.counts = icmp eq i64 %counts, %numbers
  br label %row
row:
  %r = phi i64 [0, %start], [%r.next, %row.end]
  %at = mul i64 %r, %columns
  %count.at = select i1 %own.counts, i64 %at, i64 0
  %row0 = call <16 x i32> @word(ptr %key0, i64 %r)
  %row1 = call <16 x i32> @word(ptr %key1, i64 %r)
  br label %loop
loop:
  %i = phi i64 [0, %row], [%next, %loop]
  %left = sub i64 %columns, %i
  %least = call i64 @llvm.smin.i64(i64 %left, i64 16)
  %least.short = trunc i64 %least to i32
  %least.all = call <16 x i32> @all(i32 %least.short)
  %mask = icmp ult <16 x i32> <i32 0, i32 1, i32 2, i32 3, i32 4, i32 5, i32 6, i32 7, i32 8, i32 9, i32 10, i32 11,
                               i32 12, i32 13, i32 14, i32 15>, %least.all
  %key.mask = select i1 %own.keys, <16 x i1> %mask, <16 x i1> zeroinitializer
  %k0 = call <16 x i32> @load(ptr %key0, i64 %i, <16 x i1> %key.mask, <16 x i32> %row0)
  %k1 = call <16 x i32> @load(ptr %key1, i64 %i, <16 x i1> %key.mask, <16 x i32> %row1)
  %count.i = add i64 %count.at, %i
  %x = call <16 x i32> @load(ptr %count0, i64 %count.i, <16 x i1> %mask, <16 x i32> zeroinitializer)
  %y = call <16 x i32> @load(ptr %count1, i64 %count.i, <16 x i1> %mask, <16 x i32> zeroinitializer)
  %parity = call <16 x i32> @all(i32 466688986)
  %k01 = xor <16 x i32> %k0, %k1
  %k2 = xor <16 x i32> %k01, %parity
  %x0 = add <16 x i32> %x, %k0
  %y0 = add <16 x i32> %y, %k1
  %half = insertvalue %pair poison, <16 x i32> %x0, 0
  %words0 = insertvalue %pair %half, <16 x i32> %y0, 1
  %words1 = call %pair @group(%pair %words0, i32 13, i32 15, i32 26, i32 6,
                         <16 x i32> %k1, <16 x i32> %k2, i32 1)
  %words2 = call %pair @group(%pair %words1, i32 17, i32 29, i32 16, i32 24,
                         <16 x i32> %k2, <16 x i32> %k0, i32 2)
  %words3 = call %pair @group(%pair %words2, i32 13, i32 15, i32 26, i32 6,
                         <16 x i32> %k0, <16 x i32> %k1, i32 3)
  %words4 = call %pair @group(%pair %words3, i32 17, i32 29, i32 16, i32 24,
                         <16 x i32> %k1, <16 x i32> %k2, i32 4)
  %words5 = call %pair @group(%pair %words4, i32 13, i32 15, i32 26, i32 6,
                         <16 x i32> %k2, <16 x i32> %k0, i32 5)
  %drawn0 = extractvalue %pair %words5, 0
  %drawn1 = extractvalue %pair %words5, 1
  %out = add i64 %at, %i
  call void @store(<16 x i32> %drawn0, ptr %word0, i64 %out, <16 x i1> %mask)
  call void @store(<16 x i32> %drawn1, ptr %word1, i64 %out, <16 x i1> %mask)
  %next = add i64 %i, 16
  %more = icmp slt i64 %next, %columns
  br i1 %more, label %loop, label %row.end
row.end:
  %r.next = add i64 %r, 1
  %r.more = icmp slt i64 %r.next, %rows
  br i1 %r.more, label %row, label %end
end:
  ret ptr null
}
