/* θ-gradient of lifetimes, written by hand to show what the machine can do. benchmarks/speeds/limit.py compiles this
 * file for one size (INPUTS, HIDDEN, OUTPUTS, STEPS), one layout (BY_LIFETIME, GROUPS) and a bound or none (BOUNDED).
 *
 * The update of a synapse from i to j is affine in its weight, w' = clip(u) with
 *     u = w·(1 + θ6·pre_i) + a_j + pre_i·b_j
 *     a = θ0 + θ2·potential + θ3·modulator,  b = θ1 + θ4·modulator + θ5·potential
 * With g' = ∂loss/∂w', h = g' where u lies within the bound and 0 elsewhere, the adjoint of one step is
 *     C_j = Σ_i h,  D_j = Σ_i pre_i·h,  Q_j = Σ_i pre_i·h·w
 *     ∂θ0 += ΣC,  ∂θ1 += ΣD,  ∂θ2 += C·potential,  ∂θ3 += C·modulator,  ∂θ4 += D·modulator,  ∂θ5 += D·potential,
 *     ∂θ6 += ΣQ,  ∂modulator = θ3·C + θ4·D,  ∂potential = θ2·C + θ5·D + terms of the neurons and the loss,
 *     ∂pre_i = Σ_j w·∂potential_j + h·(b_j + θ6·w),  g = h·(1 + θ6·pre_i) + pre_i·∂potential_j
 * θ costs sums over neurons, never a term a synapse. ∂pre is computed for the hidden neurons only.
 *
 * A step is one sweep over each matrix, forwards (update of t − 1, then potentials of t) and backwards (g of t, then
 * the adjoint of the update of t − 1). Backwards, weights are reconstructed by w = (w' − a − pre·b)/(1 + θ6·pre). The
 * forward pass stores what cannot be reconstructed: pieces of rows that were clipped, and the whole matrix where a
 * factor is near 0 and once in PERIOD steps, because rounding adds up.
 *
 * A vector holds 16 postsynaptic neurons of one lifetime (BY_LIFETIME = 0), or one neuron of 16 lifetimes
 * (BY_LIFETIME = 1, for networks whose weights of all steps fit into a cache: each step writes its own, none is
 * reconstructed, and a weight was clipped where it is at the bound).
 * GROUPS such vectors advance in step, because the chain from potentials to modulators waits for its own results.
 */
#include <float.h>
#include <math.h>
#include <omp.h>
#include <stddef.h>
#include <string.h>
#ifdef __AVX512DQ__
#include <immintrin.h>
#endif

enum { LANES = 16, PERIOD = 32 };
typedef float Vector __attribute__((vector_size(4 * LANES)));
typedef int Mask __attribute__((vector_size(4 * LANES)));

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 8")
/* Vectors that hold n neurons, and how many of them a sweep takes at once: their sums stay in registers. */
#define UNITS(n) (BY_LIFETIME ? (n) : ((n) + LANES - 1) / LANES)
#define WIDTH(units) ((units) % 4 == 0 ? 4 : (units) % 3 == 0 ? 3 : (units) % 2 == 0 ? 2 : 1)
/* Rows that a sweep takes at once, and number of rows, filled up to a multiple. */
#define HEIGHT(units) (BY_LIFETIME ? 1 : 4 / WIDTH(units))
#define FULL(rows, units) (((rows) + HEIGHT(units) - 1) / HEIGHT(units) * HEIGHT(units))
#define PIECES(rows, units) ((rows) * (units) / (WIDTH(units) * HEIGHT(units)))
/* Numbers between one neuron that sends and the next. */
#define STRIDE (BY_LIFETIME ? LANES : 1)
#define T STEPS
enum { UNITS1 = UNITS(HIDDEN), UNITS2 = UNITS(OUTPUTS) };
enum { ROWS1 = FULL(INPUTS + 1, UNITS1), ROWS2 = FULL(HIDDEN + 1, UNITS2), ROWS = ROWS1 > ROWS2 ? ROWS1 : ROWS2 };
/* Vectors of a matrix, and from the weights of a step to those of the next. */
enum { SIZE1 = ROWS1 * UNITS1, SIZE2 = ROWS2 * UNITS2, NEXT1 = BY_LIFETIME * SIZE1, NEXT2 = BY_LIFETIME * SIZE2 };
/* Steps whose weights are stored where they are computed, and where they cannot be reconstructed. */
enum { COMPUTED = BY_LIFETIME ? T : 1, KEPT = BY_LIFETIME ? 0 : T };

/* Weights are laid out in blocks of WIDTH columns of vectors, and by rows within. */
typedef struct {
    /* Zero at first. */
    Vector g1[SIZE1], g2[SIZE2], C1[UNITS1], D1[UNITS1], C2[UNITS2], D2[UNITS2];
    Vector a1[UNITS1], b1[UNITS1], a2[UNITS2], b2[UNITS2], rows[ROWS2 + LANES], theta[7], likelihood;
    /* Written before it is read. */
    Vector slopes1[UNITS1], slopes2[UNITS2], product;
    Vector x[T][UNITS1], y[T][UNITS1 + 1], m[T][UNITS1], z[T][UNITS2], e[T][UNITS2];
    Vector *top1[T], *top2[T], *kept1, *kept2;
    unsigned char is_kept1[T][PIECES(ROWS1, UNITS1)], is_kept2[T][PIECES(ROWS2, UNITS2)];
    /* Touched as far as it is needed. */
    Vector w1[(size_t)COMPUTED * SIZE1], w2[(size_t)COMPUTED * SIZE2];
    Vector store1[(size_t)KEPT * SIZE1], store2[(size_t)KEPT * SIZE2];
} Group;

INLINE Vector all(float x) { return x - (Vector){}; }

INLINE Vector sender(const void *values, int i) {
    return BY_LIFETIME ? ((const Vector *)values)[i] : all(((const float *)values)[i]);
}

INLINE Vector choose(Mask mask, Vector x, Vector y) { return (Vector)((mask & (Mask)x) | (~mask & (Mask)y)); }

INLINE Vector magnitude(Vector x) { return (Vector)((Mask)x & 0x7fffffff); }

INLINE Vector limited(Vector x, float bound) {
#ifdef __AVX512DQ__
    return (Vector)_mm512_max_ps(_mm512_min_ps((__m512)x, _mm512_set1_ps(bound)), _mm512_set1_ps(-bound));
#else
    return choose(x > bound, all(bound), choose(x < -bound, all(-bound), x));
#endif
}

INLINE int any_beyond(const Vector *x, int count, float bound) {
#ifdef __AVX512DQ__
    __m512 largest = _mm512_abs_ps((__m512)x[0]);
    UNROLL for (int k = 1; k < count; k++) largest = _mm512_range_ps(largest, (__m512)x[k], 0b1011);
    return _mm512_cmp_ps_mask(largest, _mm512_set1_ps(bound), _CMP_GT_OQ) != 0;
#else
    Mask beyond = {};
    for (int k = 0; k < count; k++) beyond |= magnitude(x[k]) > bound;
    int any = 0;
    for (int lane = 0; lane < LANES; lane++) any |= beyond[lane];
    return any;
#endif
}

/* e^x of x ≤ 0, to 2e-7: whole powers of two by the exponent's bits, the rest by a polynomial (Cephes). */
INLINE Vector exponential(Vector x) {
    x = choose(x < -80.f, all(-80.f), x);
    Mask powers = __builtin_convertvector(x * 1.44269504f - 0.5f, Mask);
    Vector n = __builtin_convertvector(powers, Vector), r = x - n * 0.693359375f + n * 2.12194440e-4f;
    Vector p = ((1.9875691500e-4f * r + 1.3981999507e-3f) * r + 8.3334519073e-3f) * r + 4.1665795894e-2f;
    p = ((p * r + 1.6666665459e-1f) * r + 5.0000001201e-1f) * (r * r) + (r + 1.f);
    return p * (Vector)((powers + 127) << 23);
}

INLINE Vector hyperbolic_tangent(Vector x) {
    Vector q = exponential(-2.f * magnitude(x)), size = (1.f - q) / (1.f + q);
    return (Vector)((Mask)size | ((Mask)x & (int)0x80000000));
}

/* One where a vector's lanes hold neurons, zero where they fill it up. */
INLINE Vector occupied(int unit, int neurons) {
    Vector result = all(1.f);
    if (!BY_LIFETIME && neurons % LANES)
        for (int lane = 0; lane < LANES; lane++) result[lane] = unit * LANES + lane < neurons;
    return result;
}

/* Sum over the lanes of each of 16 vectors. */
INLINE Vector sums(const Vector *rows) {
    const Mask even = {0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30}, odd = even + 1;
    Vector v[LANES];
    memcpy(v, rows, sizeof v);
#define HALVE(n) UNROLL for (int i = 0; i < n; i++) \
        v[i] = __builtin_shuffle(v[2 * i], v[2 * i + 1], even) + __builtin_shuffle(v[2 * i], v[2 * i + 1], odd);
    HALVE(8) HALVE(4) HALVE(2) HALVE(1)
#undef HALVE
    return v[0];
}

INLINE void coefficients(const float *theta, int units, int neurons, const Vector *potentials, const Vector *modulators,
                         Vector *a, Vector *b) {
    for (int j = 0; j < units; j++) {
        a[j] = (theta[0] + theta[2] * potentials[j] + theta[3] * modulators[j]) * occupied(j, neurons);
        b[j] = (theta[1] + theta[4] * modulators[j] + theta[5] * potentials[j]) * occupied(j, neurons);
    }
}

/* Factors 1 + θ6·pre of all rows and their inverses; whether some cannot be inverted. */
INLINE int factors(float theta6, const float *sent, int rows, float *scales, float *inverses) {
    float largest = 0;
    if (!BY_LIFETIME)
        for (int i = 0; i < rows; i++) {
            const float change = theta6 * sent[i];
            largest = fmaxf(largest, fabsf(change));
            scales[i] = 1.f + change;
            if (inverses) inverses[i] = 1.f / (1.f + change);
        }
    return largest > 0.5f;
}

#define PIECE_OF(units) const int width = WIDTH(units), height = HEIGHT(units), piece = width * height
#define EACH_OF_PIECE UNROLL for (int r = 0; r < height; r++) UNROLL for (int k = 0, c = r * width; k < width; k++, c++)

/* Update by the signals that were sent, then potentials by those that are sent next. */
INLINE Vector *forwards(const Vector *w, Vector *after, int rows, int units, float theta6, float bound, const void *sent, const Vector *a,
                        const Vector *b, const void *next, int keep, Vector *kept, unsigned char *is_kept,
                        Vector *potentials) {
    PIECE_OF(units);
    float scales[ROWS];
    keep |= factors(theta6, sent, rows, scales, NULL);
    for (int block = 0; block < units; block += width) {
        Vector sum[4] = {}, A[4], B[4];
        UNROLL for (int k = 0; k < width; k++) A[k] = a[block + k], B[k] = b[block + k];
        for (int i = 0; i < rows; i += height, w += piece, after += piece) {
            Vector u[4];
            EACH_OF_PIECE {
                const Vector p = sender(sent, i + r), scale = BY_LIFETIME ? 1.f + theta6 * p : all(scales[i + r]);
                u[c] = w[c] * scale + (p * B[k] + A[k]);
            }
            const int clipped = BOUNDED && (BY_LIFETIME || any_beyond(u, piece, bound));
            const int kept_here = keep || clipped;
            if (!BY_LIFETIME && kept_here) {
                UNROLL for (int c = 0; c < piece; c++) kept[c] = w[c];
                kept += piece;
            }
            if (clipped) UNROLL for (int c = 0; c < piece; c++) u[c] = limited(u[c], bound);
            if (!BY_LIFETIME) *is_kept++ = kept_here;
            EACH_OF_PIECE {
                after[c] = u[c];
                sum[c] += sender(next, i + r) * u[c];
            }
        }
        UNROLL for (int k = 0; k < width; k++) {
            potentials[block + k] = sum[k];
            UNROLL for (int r = 1; r < height; r++) potentials[block + k] += sum[r * width + k];
        }
    }
    return kept;
}

/* Adjoint of the potentials, then of the update before; w and g go back by one step. */
INLINE void backwards(Vector *w, Vector *g, int rows, int units, const float *theta, float bound, const void *later,
                      const Vector *later_b, const Vector *slopes, const void *sent, const Vector *a, const Vector *b,
                      const Vector *kept, const unsigned char *is_kept, Vector *C, Vector *D, Vector *gradient6,
                      Vector *row_sums) {
    PIECE_OF(units);
    float later_scales[ROWS], scales[ROWS], inverses[ROWS];
    factors(theta[6], later, rows, later_scales, NULL);
    factors(theta[6], sent, rows, scales, inverses);
    for (int block = 0; block < units; block += width) {
        Vector cs[4] = {}, ds[4] = {}, q[4] = {}, A[4], B[4], S[4];
        UNROLL for (int k = 0; k < width; k++) A[k] = a[block + k], B[k] = b[block + k], S[k] = slopes[block + k];
        for (int i = 0; i < rows; i += height, w += piece, g += piece) {
            Vector h[4], before[4];
            if (row_sums)
                UNROLL for (int r = 0; r < height; r++) {
                    Vector sum = block ? row_sums[i + r] : all(0.f);
                    UNROLL for (int k = 0, c = r * width; k < width; k++, c++)
                        sum += w[c] * S[k] + g[c] * (later_b[block + k] + theta[6] * w[c]);
                    row_sums[i + r] = sum;
                }
            EACH_OF_PIECE {
                const Vector l = sender(later, i + r);
                const Vector scale = BY_LIFETIME ? 1.f + theta[6] * l : all(later_scales[i + r]);
                h[c] = g[c] * scale + l * S[k];
            }
            if (BY_LIFETIME) {
                UNROLL for (int c = 0; c < piece; c++) {
                    before[c] = w[c - rows * units];
                    if (BOUNDED) h[c] = (Vector)((Mask)h[c] & (magnitude(w[c]) < bound));
                }
            } else if (*is_kept++) {
                EACH_OF_PIECE {
                    const Vector u = kept[c] * scales[i + r] + (sender(sent, i + r) * B[k] + A[k]);
                    before[c] = kept[c];
                    if (BOUNDED) h[c] = (Vector)((Mask)h[c] & (magnitude(u) <= bound));
                }
                kept += piece;
            } else {
                EACH_OF_PIECE before[c] = (w[c] - (sender(sent, i + r) * B[k] + A[k])) * all(inverses[i + r]);
            }
            EACH_OF_PIECE {
                const Vector p = sender(sent, i + r);
                cs[c] += h[c];
                ds[c] += p * h[c];
                q[c] += p * (h[c] * before[c]);
                if (!BY_LIFETIME) w[c] = before[c];
                g[c] = h[c];
            }
        }
        UNROLL for (int k = 0; k < width; k++) C[block + k] = D[block + k] = all(0.f);
        EACH_OF_PIECE C[block + k] += cs[c], D[block + k] += ds[c], *gradient6 += q[c];
    }
}

INLINE void add_gradient(Vector *gradient, int units, const Vector *C, const Vector *D, const Vector *potentials,
                         const Vector *modulators) {
    for (int j = 0; j < units; j++) {
        gradient[0] += C[j];
        gradient[1] += D[j];
        gradient[2] += C[j] * potentials[j];
        gradient[3] += C[j] * modulators[j];
        gradient[4] += D[j] * modulators[j];
        gradient[5] += D[j] * potentials[j];
    }
}

INLINE Vector sum_of_lanes(Vector x) {
    float sum = 0;
    for (int lane = 0; lane < LANES; lane++) sum += x[lane];
    return all(sum);
}

/* Loss and gradient of GROUPS groups. */
static void run(const float *theta, float bound, const Vector *first, const Vector *second, const Vector *B,
                const Vector *B_transposed, const float *signals, const Vector *targets, Vector *results,
                Group *groups) {
    static const Vector nothing[ROWS];
    const size_t length = ROWS1 * STRIDE;
#define EACH for (int l = 0; l < GROUPS; l++)
    EACH {
        Group *o = groups + l;
        memset(o, 0, offsetof(Group, slopes1));
        memcpy(o->w1, first + l * SIZE1, SIZE1 * sizeof(Vector));
        memcpy(o->w2, second + l * SIZE2, SIZE2 * sizeof(Vector));
        o->kept1 = o->store1, o->kept2 = o->store2, o->product = all(1.f);
    }
    for (int t = 0; t < T; t++) {
        const int u = t ? t - 1 : 0, keep = t && u % PERIOD == 0;
        /* The first sweep changes nothing: initial weights may be beyond the bound. */
        const float bound_now = t ? bound : FLT_MAX;
        EACH {
            Group *o = groups + l;
            const float *signal = signals + (l * T + t) * length;
            o->top1[u] = o->kept1;
            const float *sent = t ? signal - length : (const float *)nothing;
            o->kept1 = forwards(o->w1 + u * NEXT1, o->w1 + t * NEXT1, ROWS1, UNITS1, theta[6], bound_now, sent, o->a1, o->b1, signal, keep, o->kept1,
                                o->is_kept1[u], o->x[t]);
        }
        EACH {
            Group *o = groups + l;
            for (int j = 0; j < UNITS1; j++) o->y[t][j] = hyperbolic_tangent(o->x[t][j]);
            o->y[t][UNITS1] = all(1.f * BY_LIFETIME);
            if (!BY_LIFETIME) ((float *)o->y[t])[HIDDEN] = 1.f;
        }
        EACH {
            Group *o = groups + l;
            o->top2[u] = o->kept2;
            o->kept2 = forwards(o->w2 + u * NEXT2, o->w2 + t * NEXT2, ROWS2, UNITS2, theta[6], bound_now, t ? o->y[u] : nothing, o->a2, o->b2, o->y[t],
                                keep, o->kept2, o->is_kept2[u], o->z[t]);
        }
        EACH {
            Group *o = groups + l;
            for (int k = 0; k < UNITS2; k++) {
                const Vector z = o->z[t][k], target = targets[(l * T + t) * UNITS2 + k], q = exponential(-magnitude(z));
                const Vector present = occupied(k, OUTPUTS), output = choose(z > 0.f, all(1.f), q) / (1.f + q);
                o->e[t][k] = (target - output) * present;
                o->likelihood += (choose(z > 0.f, z, all(0.f)) - target * z) * present;
                o->product *= 1.f + q * present;
                /* One logarithm for many outputs; the product is at most 2^64. */
                if ((t * UNITS2 + k) % 64 == 63 || (t == T - 1 && k == UNITS2 - 1)) {
                    for (int lane = 0; lane < LANES; lane++) o->likelihood[lane] += logf(o->product[lane]);
                    o->product = all(1.f);
                }
            }
            Vector m[UNITS1] = {};
            for (int k = 0; k < OUTPUTS; k++)
                UNROLL for (int j = 0; j < UNITS1; j++) m[j] += sender(o->e[t], k) * B[(l * OUTPUTS + k) * UNITS1 + j];
            memcpy(o->m[t], m, sizeof m);
            coefficients(theta, UNITS1, HIDDEN, o->x[t], m, o->a1, o->b1);
            coefficients(theta, UNITS2, OUTPUTS, o->z[t], o->e[t], o->a2, o->b2);
        }
    }
    for (int t = T - 1; t > 0; t--) {
        EACH {
            Group *o = groups + l;
            Vector dm[UNITS1], de[UNITS2];
            for (int j = 0; j < UNITS1; j++) dm[j] = theta[3] * o->C1[j] + theta[4] * o->D1[j];
            for (int k = 0; k < UNITS2; k++) de[k] = theta[3] * o->C2[k] + theta[4] * o->D2[k];
            for (int k = 0; k < UNITS2; k++) {
                Vector part[4] = {};
                UNROLL for (int j = 0; j < HIDDEN; j++)
                    part[j % 4] += sender(dm, j) * B_transposed[(l * HIDDEN + j) * UNITS2 + k];
                de[k] += (part[0] + part[1]) + (part[2] + part[3]);
            }
            for (int k = 0; k < UNITS2; k++) {
                const Vector e = o->e[t][k], output = targets[(l * T + t) * UNITS2 + k] - e;
                const Vector dz = theta[2] * o->C2[k] + theta[5] * o->D2[k];
                o->slopes2[k] = dz - de[k] * output * (1.f - output) - e * (1.f / T);
            }
        }
        EACH {
            Group *o = groups + l;
            Vector b[UNITS2];
            memcpy(b, o->b2, sizeof b);
            coefficients(theta, UNITS2, OUTPUTS, o->z[t - 1], o->e[t - 1], o->a2, o->b2);
            backwards(o->w2 + t * NEXT2, o->g2, ROWS2, UNITS2, theta, bound, o->y[t], b, o->slopes2, o->y[t - 1], o->a2,
                      o->b2, o->top2[t - 1], o->is_kept2[t - 1], o->C2, o->D2, o->theta + 6, o->rows);
        }
        EACH {
            Group *o = groups + l;
            add_gradient(o->theta, UNITS2, o->C2, o->D2, o->z[t - 1], o->e[t - 1]);
            for (int j = 0; j < UNITS1; j++) {
                const Vector y = o->y[t][j];
                const Vector dy = BY_LIFETIME ? o->rows[j] : sums(o->rows + j * LANES) * occupied(j, HIDDEN);
                o->slopes1[j] = theta[2] * o->C1[j] + theta[5] * o->D1[j] + dy * (1.f - y * y);
            }
            coefficients(theta, UNITS1, HIDDEN, o->x[t - 1], o->m[t - 1], o->a1, o->b1);
        }
        EACH {
            Group *o = groups + l;
            const float *signal = signals + (l * T + t) * length;
            backwards(o->w1 + t * NEXT1, o->g1, ROWS1, UNITS1, theta, bound, signal, NULL, o->slopes1, signal - length, o->a1,
                      o->b1, o->top1[t - 1], o->is_kept1[t - 1], o->C1, o->D1, o->theta + 6, NULL);
        }
        EACH add_gradient(groups[l].theta, UNITS1, groups[l].C1, groups[l].D1, groups[l].x[t - 1], groups[l].m[t - 1]);
    }
    EACH {
        Group *o = groups + l;
        results[l * 8] = (BY_LIFETIME ? o->likelihood : sum_of_lanes(o->likelihood)) / T;
        for (int k = 0; k < 7; k++) results[l * 8 + 1 + k] = BY_LIFETIME ? o->theta[k] : sum_of_lanes(o->theta[k]);
    }
}

/* Bytes that one thread needs. */
long room(void) { return GROUPS * sizeof(Group); }

/* Results are, of each group, the loss and the seven derivatives. */
void gradients(int blocks, int threads, const float *theta, float bound, const Vector *first, const Vector *second,
               const Vector *B, const Vector *B_transposed, const float *signals, const Vector *targets,
               Vector *results, Group *groups) {
#pragma omp parallel for num_threads(threads) schedule(dynamic)
    for (int i = 0; i < blocks; i++) {
        const size_t at = (size_t)i * GROUPS;
        run(theta, bound, first + at * SIZE1, second + at * SIZE2, B + at * OUTPUTS * UNITS1,
            B_transposed + at * HIDDEN * UNITS2, signals + at * T * ROWS1 * STRIDE, targets + at * T * UNITS2,
            results + at * 8, groups + omp_get_thread_num() * GROUPS);
    }
}
