/* SPDX-License-Identifier: MIT */
/* TensorFlow operations that run a forecast model, its tangent linear and its adjoint.
 *
 * Written over TensorFlow's C kernel interface, whose entry points are declared here, so that this
 * file is built without TensorFlow and serves every version of it that has them. They are resolved
 * when `tf.load_op_library` opens the library in a process that holds TensorFlow.
 *
 * A graph names a model by a number given out by `pybridge_tensorflow_register`, never by an
 * address: numbers are not used twice, and one that is not registered (any more, or in this
 * process) is an error of TensorFlow's. */
#define _POSIX_C_SOURCE 200809L

#include <limits.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "pybridge.h"

/* ---- tensorflow/c/{ops,kernels,tf_tensor,tf_status,tf_datatype}.h ---- */

typedef struct TF_OpDefinitionBuilder TF_OpDefinitionBuilder;
typedef struct TF_ShapeInferenceContext TF_ShapeInferenceContext;
typedef struct TF_ShapeHandle TF_ShapeHandle;
typedef struct TF_KernelBuilder TF_KernelBuilder;
typedef struct TF_OpKernelConstruction TF_OpKernelConstruction;
typedef struct TF_OpKernelContext TF_OpKernelContext;
typedef struct TF_Tensor TF_Tensor;
typedef struct TF_Status TF_Status;
/* Enumerations of TensorFlow's, passed as int */
enum { TF_DOUBLE = 2 };
enum {
  TF_OK = 0,
  TF_INVALID_ARGUMENT = 3,
  TF_NOT_FOUND = 5,
  TF_RESOURCE_EXHAUSTED = 8,
  TF_UNIMPLEMENTED = 12,
  TF_INTERNAL = 13
};

TF_Status *TF_NewStatus(void);
void TF_DeleteStatus(TF_Status *);
void TF_SetStatus(TF_Status *, int code, const char *message);
int TF_GetCode(const TF_Status *);
const char *TF_Message(const TF_Status *);

TF_OpDefinitionBuilder *TF_NewOpDefinitionBuilder(const char *name);
void TF_OpDefinitionBuilderAddAttr(TF_OpDefinitionBuilder *, const char *);
void TF_OpDefinitionBuilderAddInput(TF_OpDefinitionBuilder *, const char *);
void TF_OpDefinitionBuilderAddOutput(TF_OpDefinitionBuilder *, const char *);
void TF_OpDefinitionBuilderSetShapeInferenceFunction(
    TF_OpDefinitionBuilder *, void (*)(TF_ShapeInferenceContext *, TF_Status *));
void TF_RegisterOpDefinition(TF_OpDefinitionBuilder *, TF_Status *);
TF_ShapeHandle *TF_NewShapeHandle(void);
void TF_DeleteShapeHandle(TF_ShapeHandle *);
void TF_ShapeInferenceContextGetInput(TF_ShapeInferenceContext *, int i, TF_ShapeHandle *,
                                      TF_Status *);
void TF_ShapeInferenceContextSetOutput(TF_ShapeInferenceContext *, int i, TF_ShapeHandle *,
                                       TF_Status *);
void TF_ShapeInferenceContextWithRank(TF_ShapeInferenceContext *, TF_ShapeHandle *, int64_t rank,
                                      TF_ShapeHandle *result, TF_Status *);

TF_KernelBuilder *TF_NewKernelBuilder(const char *op, const char *device,
                                      void *(*create)(TF_OpKernelConstruction *),
                                      void (*compute)(void *, TF_OpKernelContext *),
                                      void (*destroy)(void *));
void TF_RegisterKernelBuilder(const char *name, TF_KernelBuilder *, TF_Status *);
void TF_OpKernelConstruction_GetAttrInt64(TF_OpKernelConstruction *, const char *name, int64_t *,
                                          TF_Status *);
void TF_OpKernelConstruction_Failure(TF_OpKernelConstruction *, TF_Status *);
void TF_OpKernelContext_Failure(TF_OpKernelContext *, TF_Status *);
void TF_GetInput(TF_OpKernelContext *, int i, TF_Tensor **, TF_Status *);
TF_Tensor *TF_AllocateOutput(TF_OpKernelContext *, int i, int type, const int64_t *dims,
                             int n_dims, size_t length, TF_Status *);
void TF_DeleteTensor(TF_Tensor *);
int TF_NumDims(const TF_Tensor *);
int64_t TF_Dim(const TF_Tensor *, int);
int64_t TF_TensorElementCount(const TF_Tensor *);
void *TF_TensorData(const TF_Tensor *);

/* ---- models by number ---- */

typedef struct Entry {
  int64_t number;
  void *model;
  int n, n_parameters;
  /* Runs that are using the model */
  int users;
  struct Entry *next;
} Entry;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t left = PTHREAD_COND_INITIALIZER;
static Entry *entries = NULL;
static int64_t last_number = 0;

/* Give a model a number, which stands for it in graphs of this process; 0 where that fails. */
int64_t pybridge_tensorflow_register(void *model) {
  Entry *entry = calloc(1, sizeof *entry);
  int n_carry;
  double dt;
  if (!entry) return 0;
  entry->model = model;
  if (pybridge_model_sizes(model, &entry->n, &entry->n_parameters, &n_carry, &dt)) {
    free(entry);
    return 0;
  }
  pthread_mutex_lock(&lock);
  if (!last_number) {
    /* Begin anywhere, lest a graph saved by another process finds a model that is not its own */
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    uint64_t seed = (uint64_t)now.tv_sec * 1000000007u + (uint64_t)now.tv_nsec * 65537u +
                    (uint64_t)getpid() * 2654435761u;
    last_number = (int64_t)((seed & 0x7fffffffu) << 31);
  }
  entry->number = ++last_number;
  entry->next = entries;
  entries = entry;
  const int64_t number = entry->number;
  pthread_mutex_unlock(&lock);
  return number;
}

/* Withdraw a number. Runs under way are waited for, at most so many seconds. Returns 0 when no run
 * uses the model any longer; otherwise 1, and the model must not be freed. */
int pybridge_tensorflow_unregister(int64_t number, int seconds) {
  struct timespec end;
  clock_gettime(CLOCK_REALTIME, &end);
  end.tv_sec += seconds;
  pthread_mutex_lock(&lock);
  Entry **place = &entries;
  while (*place && (*place)->number != number) place = &(*place)->next;
  Entry *entry = *place;
  if (!entry) {
    pthread_mutex_unlock(&lock);
    return 0;
  }
  *place = entry->next;
  while (entry->users && !pthread_cond_timedwait(&left, &lock, &end)) {
  }
  const int busy = entry->users > 0;
  pthread_mutex_unlock(&lock);
  /* The entry of a busy model is left to the run that still reads it */
  if (!busy) free(entry);
  return busy;
}

static Entry *enter(int64_t number) {
  pthread_mutex_lock(&lock);
  Entry *entry = entries;
  while (entry && entry->number != number) entry = entry->next;
  if (entry) entry->users++;
  pthread_mutex_unlock(&lock);
  return entry;
}

static void leave(Entry *entry) {
  pthread_mutex_lock(&lock);
  if (!--entry->users) pthread_cond_broadcast(&left);
  pthread_mutex_unlock(&lock);
}

/* ---- kernels ---- */

enum { MAX_INPUTS = 5, MESSAGE_LENGTH = 400 };

/* What one operation of a graph always is */
typedef struct {
  int64_t number;
  int steps, threads;
} Kernel;

/* What one call of it works with */
typedef struct {
  TF_OpKernelContext *context;
  TF_Status *status;
  const Kernel *kernel;
  Entry *entry;
  TF_Tensor *inputs[MAX_INPUTS];
  int n_members;
} Call;

static void fail(TF_Status *status, int code, const char *message) {
  TF_SetStatus(status, code, message);
}

static bool is_ok(const Call *call) { return TF_GetCode(call->status) == TF_OK; }

static void *create_kernel(TF_OpKernelConstruction *construction) {
  TF_Status *status = TF_NewStatus();
  Kernel *kernel = calloc(1, sizeof *kernel);
  int64_t steps = 0, threads = 1;
  if (!kernel) fail(status, TF_RESOURCE_EXHAUSTED, "pybridge: out of memory");
  if (TF_GetCode(status) == TF_OK)
    TF_OpKernelConstruction_GetAttrInt64(construction, "model", &kernel->number, status);
  if (TF_GetCode(status) == TF_OK)
    TF_OpKernelConstruction_GetAttrInt64(construction, "steps", &steps, status);
  if (TF_GetCode(status) == TF_OK)
    TF_OpKernelConstruction_GetAttrInt64(construction, "threads", &threads, status);
  if (TF_GetCode(status) == TF_OK) {
    if (steps < 0 || steps > INT_MAX)
      fail(status, TF_INVALID_ARGUMENT, "pybridge: steps: expected 0 to 2147483647");
    else if (threads < 1 || threads > 4096)
      fail(status, TF_INVALID_ARGUMENT, "pybridge: threads: expected 1 to 4096");
    kernel->steps = (int)steps;
    kernel->threads = (int)threads;
  }
  if (TF_GetCode(status) != TF_OK) TF_OpKernelConstruction_Failure(construction, status);
  TF_DeleteStatus(status);
  return kernel;
}

static void delete_kernel(void *kernel) { free(kernel); }

static const double *input(const Call *call, int i) { return TF_TensorData(call->inputs[i]); }

/* Whether an input is a matrix of states, one for each member. */
static void check_states(Call *call, int i, const char *name) {
  const TF_Tensor *tensor = call->inputs[i];
  char message[MESSAGE_LENGTH];
  if (!is_ok(call)) return;
  const int n_dims = TF_NumDims(tensor);
  if (n_dims == 2 && TF_Dim(tensor, 1) == call->entry->n &&
      (!i || TF_Dim(tensor, 0) == call->n_members))
    return;
  if (n_dims == 2)
    snprintf(message, sizeof message, "pybridge: %s: expected shape (%s, %d), got (%lld, %lld)",
             name, i ? "members of x" : "members", call->entry->n, (long long)TF_Dim(tensor, 0),
             (long long)TF_Dim(tensor, 1));
  else
    snprintf(message, sizeof message, "pybridge: %s: expected shape (%s, %d), got %d dimensions",
             name, i ? "members of x" : "members", call->entry->n, n_dims);
  fail(call->status, TF_INVALID_ARGUMENT, message);
}

static void check_parameters(Call *call, int i, const char *name) {
  const TF_Tensor *tensor = call->inputs[i];
  char message[MESSAGE_LENGTH];
  if (!is_ok(call)) return;
  if (TF_NumDims(tensor) != 1 || TF_Dim(tensor, 0) != call->entry->n_parameters) {
    snprintf(message, sizeof message, "pybridge: %s: expected shape (%d,), got %lld values", name,
             call->entry->n_parameters, (long long)TF_TensorElementCount(tensor));
    fail(call->status, TF_INVALID_ARGUMENT, message);
  }
}

/* The first step's number: one for all members, or one for each. */
static void check_first_step(Call *call) {
  const TF_Tensor *tensor = call->inputs[2];
  const int64_t count = TF_TensorElementCount(tensor);
  char message[MESSAGE_LENGTH];
  if (!is_ok(call)) return;
  if (TF_NumDims(tensor) > 1 || (TF_NumDims(tensor) == 1 && count != call->n_members)) {
    snprintf(message, sizeof message, "pybridge: k: expected shape () or (%d,), got %lld values",
             call->n_members, (long long)count);
    fail(call->status, TF_INVALID_ARGUMENT, message);
    return;
  }
  const int32_t *k = TF_TensorData(tensor);
  for (int64_t i = 0; i < count; i++) {
    if (k[i] > INT_MAX - call->kernel->steps) {
      fail(call->status, TF_INVALID_ARGUMENT, "pybridge: k: steps are counted up to 2147483647");
      return;
    }
  }
}

static bool open_call(Call *call, void *kernel, TF_OpKernelContext *context, int n_inputs) {
  char message[MESSAGE_LENGTH];
  memset(call, 0, sizeof *call);
  call->context = context;
  call->kernel = kernel;
  call->status = TF_NewStatus();
  call->entry = enter(call->kernel->number);
  if (!call->entry) {
    snprintf(message, sizeof message,
             "pybridge: model %lld is not known: it no longer exists, or this graph was made by "
             "another process; make its layer again",
             (long long)call->kernel->number);
    fail(call->status, TF_NOT_FOUND, message);
    return false;
  }
  for (int i = 0; i < n_inputs && is_ok(call); i++)
    TF_GetInput(context, i, &call->inputs[i], call->status);
  if (!is_ok(call)) return false;
  if (TF_NumDims(call->inputs[0]) == 2 && TF_Dim(call->inputs[0], 0) <= INT_MAX)
    call->n_members = (int)TF_Dim(call->inputs[0], 0);
  check_states(call, 0, "x");
  check_parameters(call, 1, "p");
  check_first_step(call);
  return is_ok(call);
}

static void close_call(Call *call) {
  if (!is_ok(call)) TF_OpKernelContext_Failure(call->context, call->status);
  for (int i = 0; i < MAX_INPUTS; i++)
    if (call->inputs[i]) TF_DeleteTensor(call->inputs[i]);
  if (call->entry) leave(call->entry);
  TF_DeleteStatus(call->status);
}

/* An output of the shape of an input, holding its values or zeros. */
static double *output(Call *call, int i, int like, bool copied, TF_Tensor **tensor) {
  const TF_Tensor *model = call->inputs[like];
  int64_t dims[2];
  const int n_dims = TF_NumDims(model);
  const size_t length = (size_t)TF_TensorElementCount(model) * sizeof(double);
  for (int d = 0; d < n_dims; d++) dims[d] = TF_Dim(model, d);
  *tensor =
      TF_AllocateOutput(call->context, i, TF_DOUBLE, dims, n_dims, length, call->status);
  if (!is_ok(call) || !*tensor) return NULL;
  double *values = TF_TensorData(*tensor);
  if (copied && length) memcpy(values, TF_TensorData(model), length);
  if (!copied && length) memset(values, 0, length);
  return values;
}

/* Run the members, those in a row that begin with the same step together. */
static void run(Call *call, int purpose, const double *dp, double *result, double *p_ad) {
  const Kernel *kernel = call->kernel;
  const int64_t n = call->entry->n;
  const int32_t *k = TF_TensorData(call->inputs[2]);
  const bool shared = TF_NumDims(call->inputs[2]) == 0;
  const double *p = input(call, 1), *x = input(call, 0);
  char text[MESSAGE_LENGTH / 2], message[MESSAGE_LENGTH];
  void *model = call->entry->model;
  if (!is_ok(call) || call->n_members == 0) return;

  const int64_t n_work =
      pybridge_model_workspace(model, purpose, kernel->steps, call->n_members, kernel->threads);
  double *work = malloc((size_t)(n_work > 0 ? n_work : 1) * sizeof *work);
  int status = work ? 0 : PYBRIDGE_OUT_OF_MEMORY, member = 0, step = 0, first = 0, next = 0;
  for (; first < call->n_members && !status; first = next) {
    next = call->n_members;
    if (!shared)
      for (next = first + 1; next < call->n_members && k[next] == k[first];) next++;
    const int k_first = shared ? *k : k[first];
    if (purpose == PYBRIDGE_WORKSPACE_FORECAST)
      status = pybridge_model_forecast(model, k_first, kernel->steps, 1, next - first,
                                       kernel->threads, p, result + first * n, NULL, work, n_work,
                                       &member, &step);
    else if (purpose == PYBRIDGE_WORKSPACE_TL)
      status = pybridge_model_forecast_tl(model, k_first, kernel->steps, next - first,
                                          kernel->threads, p, x + first * n, dp,
                                          result + first * n, work, n_work, &member, &step);
    else
      status = pybridge_model_forecast_ad(model, k_first, kernel->steps, next - first,
                                          kernel->threads, p, x + first * n, result + first * n,
                                          p_ad, work, n_work, &member, &step);
    if (status) break;
  }
  free(work);
  if (!status) return;
  memset(text, 0, sizeof text);
  pybridge_status_message(status, text, (int)sizeof text);
  if (step)
    snprintf(message, sizeof message, "pybridge: %s%s; member %d, step %d of the run (k = %d)",
             status == PYBRIDGE_BLOW_UP ? "the model blew up: " : "", text, first + member - 1, step,
             (shared ? *k : k[first]) + step - 1);
  else
    snprintf(message, sizeof message, "pybridge: %s", text);
  /* Not OUT_OF_RANGE: Keras takes that for the end of its data */
  fail(call->status,
       status == PYBRIDGE_OUT_OF_MEMORY     ? TF_RESOURCE_EXHAUSTED
       : status == PYBRIDGE_USER_PROCEDURE ? TF_INTERNAL
                                         : TF_INVALID_ARGUMENT,
       message);
}

/* x, p, k -> x after the run */
static void compute_forecast(void *kernel, TF_OpKernelContext *context) {
  Call call;
  TF_Tensor *y = NULL;
  if (open_call(&call, kernel, context, 3)) {
    double *result = output(&call, 0, 0, true, &y);
    run(&call, PYBRIDGE_WORKSPACE_FORECAST, NULL, result, NULL);
  }
  if (y) TF_DeleteTensor(y);
  close_call(&call);
}

/* x, p, k, dx, dp -> dx after the run */
static void compute_tangent_linear(void *kernel, TF_OpKernelContext *context) {
  Call call;
  TF_Tensor *dy = NULL;
  if (open_call(&call, kernel, context, 5)) {
    check_states(&call, 3, "dx");
    check_parameters(&call, 4, "dp");
    if (is_ok(&call)) {
      double *result = output(&call, 0, 3, true, &dy);
      run(&call, PYBRIDGE_WORKSPACE_TL, input(&call, 4), result, NULL);
    }
  }
  if (dy) TF_DeleteTensor(dy);
  close_call(&call);
}

/* x, p, k, x_ad after the run -> x_ad before it, p_ad */
static void compute_adjoint(void *kernel, TF_OpKernelContext *context) {
  Call call;
  TF_Tensor *x_ad = NULL, *p_ad = NULL;
  if (open_call(&call, kernel, context, 4)) {
    check_states(&call, 3, "x_ad");
    double *result = is_ok(&call) ? output(&call, 0, 3, true, &x_ad) : NULL;
    double *sums = is_ok(&call) ? output(&call, 1, 1, false, &p_ad) : NULL;
    run(&call, PYBRIDGE_WORKSPACE_AD, NULL, result, sums);
  }
  if (x_ad) TF_DeleteTensor(x_ad);
  if (p_ad) TF_DeleteTensor(p_ad);
  close_call(&call);
}

/* Stands in a graph where a second derivative would; run only where its value is wanted. */
static void compute_no_derivative(void *kernel, TF_OpKernelContext *context) {
  (void)kernel;
  TF_Status *status = TF_NewStatus();
  fail(status, TF_UNIMPLEMENTED,
       "pybridge: a forecast model has first derivatives only: the gradient of its adjoint (or "
       "tangent linear) with respect to state or parameters is not available");
  TF_OpKernelContext_Failure(context, status);
  TF_DeleteStatus(status);
}

static void *create_nothing(TF_OpKernelConstruction *construction) {
  (void)construction;
  return NULL;
}

static void delete_nothing(void *kernel) { (void)kernel; }

/* ---- shapes ---- */

/* Output i has the shape of input `like`, which must have this rank (any, where negative). */
static void copy_shape(TF_ShapeInferenceContext *context, int i, int like, int rank,
                       TF_Status *status) {
  TF_ShapeHandle *shape = TF_NewShapeHandle();
  TF_ShapeInferenceContextGetInput(context, like, shape, status);
  if (TF_GetCode(status) == TF_OK && rank >= 0)
    TF_ShapeInferenceContextWithRank(context, shape, rank, shape, status);
  if (TF_GetCode(status) == TF_OK) TF_ShapeInferenceContextSetOutput(context, i, shape, status);
  TF_DeleteShapeHandle(shape);
}

static void state_shape(TF_ShapeInferenceContext *context, TF_Status *status) {
  copy_shape(context, 0, 0, 2, status);
}

static void state_and_parameters_shape(TF_ShapeInferenceContext *context, TF_Status *status) {
  copy_shape(context, 0, 0, 2, status);
  if (TF_GetCode(status) == TF_OK) copy_shape(context, 1, 1, 1, status);
}

static void same_shape(TF_ShapeInferenceContext *context, TF_Status *status) {
  copy_shape(context, 0, 0, -1, status);
}

/* ---- registration ---- */

/* An operation, its specifications a string each, and its kernel on the CPU. */
typedef struct {
  const char *name;
  const char *inputs[MAX_INPUTS];
  const char *outputs[2];
  bool has_model;
  void (*shape)(TF_ShapeInferenceContext *, TF_Status *);
  void (*compute)(void *, TF_OpKernelContext *);
} Operation;

static const Operation operations[] = {
    {"PybridgeForecast",
     {"x: double", "p: double", "k: int32"},
     {"y: double"},
     true,
     state_shape,
     compute_forecast},
    {"PybridgeForecastTangentLinear",
     {"x: double", "p: double", "k: int32", "dx: double", "dp: double"},
     {"dy: double"},
     true,
     state_shape,
     compute_tangent_linear},
    {"PybridgeForecastAdjoint",
     {"x: double", "p: double", "k: int32", "y_ad: double"},
     {"x_ad: double", "p_ad: double"},
     true,
     state_and_parameters_shape,
     compute_adjoint},
    {"PybridgeNoDerivative",
     {"x: double", "upstream: double"},
     {"y: double"},
     false,
     same_shape,
     compute_no_derivative},
};

static void complain(const char *name, const TF_Status *status) {
  if (TF_GetCode(status) != TF_OK)
    fprintf(stderr, "pybridge: %s: %s\n", name, TF_Message(status));
}

/* TensorFlow collects what is registered while it opens the library */
__attribute__((constructor)) static void register_operations(void) {
  TF_Status *status = TF_NewStatus();
  for (size_t i = 0; i < sizeof operations / sizeof operations[0]; i++) {
    const Operation *operation = &operations[i];
    TF_OpDefinitionBuilder *definition = TF_NewOpDefinitionBuilder(operation->name);
    for (int j = 0; j < MAX_INPUTS && operation->inputs[j]; j++)
      TF_OpDefinitionBuilderAddInput(definition, operation->inputs[j]);
    for (int j = 0; j < 2 && operation->outputs[j]; j++)
      TF_OpDefinitionBuilderAddOutput(definition, operation->outputs[j]);
    if (operation->has_model) {
      TF_OpDefinitionBuilderAddAttr(definition, "model: int");
      TF_OpDefinitionBuilderAddAttr(definition, "steps: int >= 0");
      TF_OpDefinitionBuilderAddAttr(definition, "threads: int >= 1 = 1");
    }
    TF_OpDefinitionBuilderSetShapeInferenceFunction(definition, operation->shape);
    TF_RegisterOpDefinition(definition, status);
    complain(operation->name, status);
    TF_KernelBuilder *builder =
        TF_NewKernelBuilder(operation->name, "CPU",
                            operation->has_model ? create_kernel : create_nothing,
                            operation->compute,
                            operation->has_model ? delete_kernel : delete_nothing);
    TF_RegisterKernelBuilder(operation->name, builder, status);
    complain(operation->name, status);
  }
  TF_DeleteStatus(status);
}
