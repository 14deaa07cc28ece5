{% macro _stage_and_publish() %}
  {%- set existing_relation = dbt_enrich.put_back(this) -%}
  {%- set target_relation = this.incorporate(type='table') -%}
  {%- set intermediate_relation = make_intermediate_relation(target_relation) -%}
  {%- set preexisting_intermediate_relation = load_cached_relation(intermediate_relation) -%}
  {%- set backup_relation_type = 'table' if existing_relation is none else existing_relation.type -%}
  {%- set backup_relation = make_backup_relation(target_relation, backup_relation_type) -%}
  {%- set preexisting_backup_relation = load_cached_relation(backup_relation) -%}
  {%- set grant_config = config.get('grants') -%}
  {%- set rows = dbt_enrich._work_relation(target_relation, 'rows') -%}
  {%- set mode = dbt_enrich._mode(this) -%}
  {%- set publishes = mode not in ['plan', 'preview'] -%}
  {%- set merges = mode != 'preview' and dbt_enrich._is_merged(existing_relation) -%}

  {% if mode == 'plan' and dbt_enrich._missing_parents(model.depends_on.nodes) %}
    {#- The command says so, which finds them missing too. -#}
    {% call statement('main') -%}
      select 1
    {%- endcall %}
    {{ return({'relations': []}) }}
  {% endif %}

  {% do dbt_enrich.check_place(target_relation) %}
  {{ drop_relation_if_exists(preexisting_intermediate_relation) }}
  {{ drop_relation_if_exists(preexisting_backup_relation) }}

  {{ run_hooks(pre_hooks, inside_transaction=False) }}
  {% do dbt_enrich._create_work_schema(rows) %}

  -- `BEGIN` happens here:
  {{ run_hooks(pre_hooks, inside_transaction=True) }}

  {%- set columns = dbt_enrich._stage_rows(rows, compiled_code, existing_relation if merges else none) -%}
  {% if merges %}
    {%- set results = dbt_enrich._existing_work_relation(target_relation, 'results') -%}
    {% do dbt_enrich._stage_unfinished(rows, columns, existing_relation, results) %}
  {% endif %}
  {% do dbt_enrich._refuse_repeats(rows) %}
  {%- set enriched_sql = dbt_enrich._enriched_sql(target_relation, columns) -%}
  {%- set errors_sql = dbt_enrich._errors_sql(target_relation) -%}

  {% if merges and publishes %}
    {% do dbt_enrich.merge_enriched(target_relation, intermediate_relation, enriched_sql, errors_sql) %}
  {% elif publishes or existing_relation is none %}
    {#- `plan` and `preview` leave an existing table alone, and make an empty one where there is none. -#}
    {%- set limit = '' if publishes else ' where false' -%}
    {% do dbt_enrich.publish_enriched(
      existing_relation,
      intermediate_relation,
      target_relation,
      backup_relation,
      'select * from (' ~ enriched_sql ~ ') as enriched' ~ limit if limit else enriched_sql,
      errors_sql,
    ) %}
  {% else %}
    {% call statement('main') -%}
      select 1
    {%- endcall %}
  {% endif %}

  {{ run_hooks(post_hooks, inside_transaction=True) }}

  {% set should_revoke = should_revoke(existing_relation, full_refresh_mode=not merges) %}
  {% do apply_grants(target_relation, grant_config, should_revoke=should_revoke) %}
  {% if publishes or existing_relation is none %}
    {% do persist_docs(target_relation, model) %}
  {% endif %}
  {%- set counts = dbt_enrich._count_statuses(target_relation) if publishes else [] -%}

  -- `COMMIT` happens here
  {{ adapter.commit() }}

  -- finally, drop the existing/backup relation after the commit
  {{ drop_relation_if_exists(backup_relation) }}
  {% do dbt_enrich._say_what_is_due(counts) %}

  {{ run_hooks(post_hooks, inside_transaction=False) }}

  {{ return({'relations': [target_relation]}) }}
{% endmacro %}
