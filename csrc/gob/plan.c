#include "gob/plan.h"

#include <string.h>

#include "gob/path.h"
#include "gob/type.h"
#include "gp/error.h"

/* Where in a plan another one is, if not in a step. */
#define AT_ELEMENT (SIZE_MAX - 1)
#define AT_KEY SIZE_MAX

typedef struct gp__gob_parent {
    gp__gob_plan *plan; /* borrowed */
    size_t at;
    struct gp__gob_parent *next;
} gp__gob_parent;

void
gp__gob_plans_init(gp__gob_plans *plans, size_t most)
{
    memset(plans, 0, sizeof(*plans));
    plans->most = most;
}

void
gp__gob_plans_release(gp__gob_plans *plans)
{
    for (gp__gob_plan *plan = plans->newest; plan != NULL; plan = plan->older) {
        gp_gob_type_unref(plan->type);
    }
    gp__gob_map_release(&plans->by_types);
    gp__arena_release(&plans->arena);
}

/* ---- Compiling ------------------------------------------------------------------------------- */

/* Whether values of one type can be the other's, apart from what they contain. */
static bool
kinds_fit(const gp_gob_wire_type *wire, const gp_gob_type *type)
{
    if (wire->kind != type->kind) {
        return false;
    }
    switch (type->kind) {
    case GP_GOB_ARRAY:
        return wire->length == type->length;
    case GP_GOB_OPAQUE:
        return wire->flavour == type->flavour;
    default:
        return true;
    }
}

/* The plan is faulty, and so are those that contain it, those that contain them, and so on. */
static void
blame(gp__gob_plan *plan, const gp__gob_plan *culprit, size_t at)
{
    gp__gob_plan *work = plan;

    if (plan->faulty) {
        return;
    }
    plan->faulty = true;
    plan->culprit = culprit;
    plan->culprit_at = at;
    while (work != NULL) {
        gp__gob_plan *current = work;

        work = work->next_blamed;
        for (gp__gob_parent *parent = current->parents; parent != NULL; parent = parent->next) {
            if (!parent->plan->faulty) {
                parent->plan->faulty = true;
                parent->plan->culprit = current;
                parent->plan->culprit_at = parent->at;
                parent->plan->next_blamed = work;
                work = parent->plan;
            }
        }
    }
}

/* The plan for a pair of types: one that is not compiled yet is put in the queue for that. */
static gp__gob_plan *
find_or_add(gp__gob_plans *plans, const gp_gob_wire_type *wire, const gp_gob_type *type)
{
    uint64_t number = (uint64_t)(uintptr_t)wire;
    gp__gob_plan *plan = gp__gob_map_get(&plans->by_types, number, type);

    if (plan != NULL) {
        return plan;
    }
    plan = gp__arena_alloc(&plans->arena, sizeof(*plan));
    if (plan == NULL || gp__gob_map_add(&plans->by_types, number, type, plan) < 0) {
        return NULL;
    }
    memset(plan, 0, sizeof(*plan));
    plan->kind = wire->kind;
    plan->wire = wire;
    plan->type = type != NULL ? gp_gob_type_ref(type) : NULL;
    plan->older = plans->newest;
    plans->newest = plan;
    plan->next = plans->pending;
    plans->pending = plan;
    return plan;
}

/* Connect |plan| with the one for a type in it. */
static int
add_child(gp__gob_plans *plans, gp__gob_plan *plan, size_t at, const gp_gob_wire_type *wire,
          const gp_gob_type *type, gp__gob_plan **out)
{
    gp__gob_plan *child = find_or_add(plans, wire, type);
    gp__gob_parent *parent;

    if (child == NULL) {
        return GP_ENOMEM;
    }
    *out = child;
    if (type == NULL) {
        return 0; /* an untyped value takes everything */
    }
    if (child->faulty) {
        blame(plan, child, at);
        return 0;
    }
    parent = gp__arena_alloc(&plans->arena, sizeof(*parent));
    if (parent == NULL) {
        return GP_ENOMEM;
    }
    *parent = (gp__gob_parent){plan, at, child->parents};
    child->parents = parent;
    return 0;
}

/* The program's field with that name, or SIZE_MAX. |guess| is the most likely one. */
static size_t
find_field(const gp_gob_type *type, const gp__gob_wire_field *field, size_t guess)
{
    for (size_t i = 0; i < type->field_count; i++) {
        size_t at = guess + i < type->field_count ? guess + i : guess + i - type->field_count;
        const gp__gob_member_type *member = &type->fields[at];

        if (member->len == field->len && memcmp(member->name, field->name, field->len) == 0) {
            return at;
        }
    }
    return SIZE_MAX;
}

static int
compile_struct(gp__gob_plans *plans, gp__gob_plan *plan)
{
    const gp_gob_type *type = plan->type;
    const gp_gob_wire_type *wire = plan->wire;
    size_t common = 0;
    size_t guess = 0;

    plan->slots = type != NULL ? type->field_count : wire->field_count;
    plan->steps = gp__arena_alloc(&plans->arena, wire->field_count * sizeof(*plan->steps));
    if (plan->steps == NULL) {
        return GP_ENOMEM;
    }
    memset(plan->steps, 0, wire->field_count * sizeof(*plan->steps));
    for (size_t i = 0; i < wire->field_count; i++) {
        gp__gob_step *step = &plan->steps[i];
        int rc;

        step->slot = type != NULL ? find_field(type, &wire->fields[i], guess) : i;
        if (step->slot == SIZE_MAX) {
            continue;
        }
        guess = step->slot + 1 < plan->slots ? step->slot + 1 : 0;
        common++;
        rc = add_child(plans, plan, i, wire->fields[i].type,
                       type != NULL ? type->fields[step->slot].type : NULL, &step->plan);
        if (rc < 0) {
            return rc;
        }
    }
    plan->nothing_common = common == 0 && wire->field_count > 0 && plan->slots > 0;
    return 0;
}

static int
compile(gp__gob_plans *plans, gp__gob_plan *plan)
{
    const gp_gob_type *type = plan->type;
    gp__gob_plan *child;
    int rc = 0;

    if (type != NULL && !kinds_fit(plan->wire, type)) {
        plan->mismatch = true;
        blame(plan, NULL, 0);
        return 0;
    }
    if (plan->kind == GP_GOB_STRUCT) {
        return compile_struct(plans, plan);
    }
    if (plan->wire->key != NULL) {
        rc = add_child(plans, plan, AT_KEY, plan->wire->key, type != NULL ? type->key : NULL,
                       &child);
        plan->key = rc == 0 ? child : NULL;
    }
    if (rc == 0 && plan->wire->element != NULL) {
        rc = add_child(plans, plan, AT_ELEMENT, plan->wire->element,
                       type != NULL ? type->element : NULL, &child);
        plan->element = rc == 0 ? child : NULL;
    }
    return rc;
}

int
gp__gob_plans_get(gp__gob_plans *plans, const gp_gob_wire_type *wire, const gp_gob_type *type,
                  const gp__gob_plan **out, gp_error *err)
{
    *out = find_or_add(plans, wire, type);
    if (*out == NULL) {
        return gp_error_set(err, GP_ENOMEM, "a plan to decode gob");
    }
    while (plans->pending != NULL) {
        gp__gob_plan *plan = plans->pending;
        int rc;

        if (plans->arena.used > plans->most) {
            return gp__gob_corrupt(err, "the stream has too many types under too many names");
        }
        plans->pending = plan->next;
        plan->next = NULL;
        rc = compile(plans, plan);
        if (rc < 0) {
            plan->next = plans->pending;
            plans->pending = plan;
            return gp_error_set(err, rc, "a plan to decode gob");
        }
    }
    return 0;
}

/* ---- Faults ---------------------------------------------------------------------------------- */

int
gp__gob_plan_refuse(const gp__gob_plan *plan, gp__buf *path, gp_error *err)
{
    char has[GP__GOB_DESCRIBED];
    char wants[GP__GOB_DESCRIBED];

    for (; plan->culprit != NULL; plan = plan->culprit) {
        if (plan->culprit_at == AT_KEY) {
            gp__gob_path_remark(path, "key", 3);
        } else if (plan->culprit_at == AT_ELEMENT) {
            gp__gob_path_any(path);
        } else {
            gp__gob_path_field(path, plan->wire->fields[plan->culprit_at].name);
        }
    }
    return gp__gob_fail(err, GP_EGOB, path, "the stream has %s, the class %s",
                        gp__gob_wire_type_describe(plan->wire, has),
                        gp__gob_type_describe(plan->type, wants));
}

int
gp__gob_plan_refuse_strangers(const gp__gob_plan *plan, gp__buf *path, gp_error *err)
{
    char has[GP__GOB_DESCRIBED];
    char wants[GP__GOB_DESCRIBED];

    return gp__gob_fail(
        err, GP_EGOB, path, "%s of the stream and %s of the class have no field in common",
        gp__gob_wire_type_describe(plan->wire, has), gp__gob_type_describe(plan->type, wants));
}
